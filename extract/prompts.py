"""Prompts and reference pictures to CLIP features: what cached frames are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.digest import DigestMemo
from ..cache.errors import ModelError
from ..cache.key import canonical_model
from .encoder import FloatArray
from .models import DEMO_MODEL, OPENAI_MODELS, WeightsFile, find_weights, load_model
from .placement import Placement, place
from .preprocess import make_resize, read_image
from .vision import MEAN, STD


class PromptEncoder:
    """Prompts and reference pictures to features, in float32: few of them, so exactness is free."""

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        import torch

        self._torch = torch
        self._device = placement.device
        self._model = load_model(weights, trust=trust).to(placement.device)
        self._resize = make_resize(int(self._model.visual.input_resolution), "torch")

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """(P, D) float32 features of prompts, not normalised.

        Raises:
            ModelError: A prompt longer than the model's context, unless `truncate`.
        """
        rows = [
            self._encode_tokens(self._tokenize(prompts[i : i + 256], truncate)) for i in range(0, len(prompts), 256)
        ]
        return np.concatenate(rows)

    def encode_images(self, paths: Sequence[Path]) -> FloatArray:
        """(I, D) float32 features of picture files, not normalised.

        Raises:
            MediaError: A file that is no picture.
        """
        torch = self._torch
        rows = []
        for path in paths:
            picture = torch.from_numpy(self._resize(read_image(path))).to(self._device)
            scaled = (
                picture.permute(2, 0, 1).float() / 255 - torch.tensor(MEAN, device=self._device).view(3, 1, 1)
            ) / (torch.tensor(STD, device=self._device).view(3, 1, 1))
            with torch.inference_mode():
                rows.append(self._model.encode_image(scaled.unsqueeze(0)).float().cpu().numpy())
        return np.concatenate(rows)

    def _encode_tokens(self, tokens: Any) -> FloatArray:
        with self._torch.inference_mode():
            features: FloatArray = self._model.encode_text(tokens.to(self._device)).float().cpu().numpy()
        return features

    def _tokenize(self, prompts: Sequence[str], truncate: bool) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pkg_resources, on itself and on editable installs
            import clip

        rows = []
        for prompt in prompts:
            try:
                rows.append(clip.tokenize([prompt], context_length=self._model.context_length, truncate=truncate))
            except RuntimeError as error:
                raise ModelError(
                    f"The prompt {prompt!r} is longer than the {self._model.context_length} tokens that the model "
                    "reads; shorten it, or pass --truncate to drop its end."
                ) from error
        return self._torch.cat(rows)


def load_reference_encoder(
    model: str, weights_sha256: str, *, weights: Path | None = None, device: str = "auto", trust: bool = False
) -> PromptEncoder:
    """The encoder for questions to features that were made with the given weights.

    Args:
        model: The name that the cache records.
        weights_sha256: The checksum that the cache records.
        weights: A file to use; None looks for the one used before, then for OpenAI's download.
        device: "auto", "cpu", "cuda" or "cuda:N".
        trust: As in `load_model`.

    Raises:
        ModelError: The weights cannot be found, or are not the ones that made the features.
    """
    memo = DigestMemo()
    name = canonical_model(model)
    known = name == DEMO_MODEL or (name in OPENAI_MODELS and OPENAI_MODELS[name].sha256 == weights_sha256)
    if weights is None and not known:
        weights = next(iter(memo.paths_of(weights_sha256)), None)
        if weights is None:
            raise ModelError(
                f"The features were made with weights {weights_sha256[:16]}… of {model}, which are not where they "
                "were; name the file with --weights."
            )
    found = find_weights(name, weights, memo)
    if found.sha256 != weights_sha256:
        raise ModelError(
            f"The weights {found.path} ({found.sha256[:16]}…) are not those that made the features "
            f"({weights_sha256[:16]}…); scores would mean nothing."
        )
    return PromptEncoder(found, place(device), trust=trust)
