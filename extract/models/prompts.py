"""Prompts and reference pictures to CLIP features: what cached frames are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...cache.common.errors import ModelError, UsageError
from ...cache.common.hashing import DigestMemo
from ..video.images import read_image
from ..video.resize import make_resize
from .contract import FloatArray
from .placement import Placement, place
from .registry import find_weights, open_encoder
from .weights import WeightsFile

_PROMPTS_AT_ONCE = 256


class PromptEncoder:
    """Prompts and reference pictures to features, in float32: few of them, so exactness is free."""

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        exact = replace(placement, precision="fp32", batch_size=1)
        self._encoder = open_encoder(weights, exact, trust=trust)
        self._device = placement.device
        spec = self._encoder.spec
        self._resize = make_resize(spec.input_size, "torch", spec.resize)

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """(P, D) float32 features of prompts, not normalised.

        Raises:
            ModelError: A prompt longer than the model's context, unless `truncate`; or a model of pictures alone.
        """
        spec = self._encoder.spec
        if not spec.has_text:
            raise ModelError(f"The model {spec.name} has no text half", "compare with --image, --video or vectors")
        parts = [prompts[i : i + _PROMPTS_AT_ONCE] for i in range(0, len(prompts), _PROMPTS_AT_ONCE)]
        return np.concatenate([self._encoder.encode_texts(part, truncate) for part in parts])

    def encode_images(self, paths: Sequence[Path]) -> FloatArray:
        """(I, D) float32 features of picture files, not normalised.

        Raises:
            MediaError: A file that is no picture.
        """
        return np.concatenate([self._encode_image(path) for path in paths])

    def _encode_image(self, path: Path) -> FloatArray:
        import torch

        picture = torch.from_numpy(self._resize(read_image(path))).to(self._device)
        with torch.inference_mode():
            features: FloatArray = self._encoder.encode_images(picture.unsqueeze(0)).cpu().numpy()
        return features


def load_reference_encoder(
    model: str, weights_sha256: str, *, weights: Path | None = None, device: str = "auto", trust: bool = False
) -> PromptEncoder:
    """The encoder for questions to features that were made with the given weights.

    Args:
        model: The name that the cache records.
        weights_sha256: The checksum that the cache records.
        weights: A file to use; None looks for the one used before, then for what the name means by itself.
        device: "auto", "cpu", "cuda" or "cuda:N".
        trust: As in `load_model`.

    Raises:
        ModelError: The weights cannot be found, or are not the ones that made the features.
    """
    memo = DigestMemo()
    if weights is None:
        weights = next(iter(memo.paths_of(weights_sha256)), None)
    try:
        found = find_weights(model, weights, memo)
    except UsageError as error:
        raise ModelError(
            f"The features were made with weights {weights_sha256[:16]}… of {model}, which are not where they were",
            "name the file with --weights",
        ) from error
    if found.sha256 != weights_sha256:
        raise ModelError(
            f"The weights {found.path} ({found.sha256[:16]}…) are not those that made the features "
            f"({weights_sha256[:16]}…), so scores would mean nothing",
            "name those with --weights",
        )
    return PromptEncoder(found, place(device), trust=trust)
