"""Prompts and pictures to vectors: what cached frames are compared with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import ModelError, UsageError
from ...cache.common.hashing import DigestMemo
from ..video.images import read_image
from ..video.resize import make_resize
from .contract import FloatArray
from .placement import Placement, Precision, place
from .registry import find_weights, open_encoder
from .weights import DEFAULT_MODEL, WeightsFile

_PROMPTS_AT_ONCE = 256

Picture = str | os.PathLike[str] | npt.NDArray[np.uint8]
"""A picture file, or (H, W, 3) uint8 RGB pixels."""


class LoadedModel:
    """A model that is loaded: turns prompts and pictures into vectors.

    Attributes:
        spec: what is known of the model: `embed_dim`, `input_size`, `logit_scale` and more.
    """

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        """`load_model` makes one."""
        self._encoder = open_encoder(weights, placement, trust=trust)
        self._placement = placement
        self.spec = self._encoder.spec
        self._resize = make_resize(self.spec.input_size, "torch", self.spec.resize)

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """Encode prompts.

        Args:
            prompts: R of them, taken as they are.
            truncate: drop the end of a prompt that is too long.

        Returns:
            (R, D) float32 vectors as the model gives them, not normalised.

        Raises:
            UsageError: if the prompts are one string.
            ModelError: if a prompt is longer than the model reads and `truncate` is false, or the model has no text
                encoder.
        """
        if isinstance(prompts, str):  # which is a sequence too: of its letters
            raise UsageError("encode_texts takes a list of prompts, not one string", "put the prompt in brackets")
        if not self.spec.has_text:
            raise ModelError(f"The model {self.spec.name} encodes no text", "compare with --image, --video or vectors")
        parts = [prompts[i : i + _PROMPTS_AT_ONCE] for i in range(0, len(prompts), _PROMPTS_AT_ONCE)]
        return self._stack(self._encoder.encode_texts(part, truncate) for part in parts)

    def encode_images(self, pictures: Iterable[Picture]) -> FloatArray:
        """Encode pictures, prepared as frames are.

        Args:
            pictures: R paths of picture files or (H, W, 3) uint8 RGB arrays of any size, mixed as you like.

        Returns:
            (R, D) float32 vectors as the model gives them, not normalised.

        Raises:
            MediaError: if a file is not a picture.
            UsageError: if an array has another shape or type, or the pictures are one path.
        """
        import torch

        if isinstance(pictures, str | os.PathLike):
            raise UsageError("encode_images takes a list of pictures, not one path", "put the path in brackets")

        def encode(batch: list[npt.NDArray[np.uint8]]) -> FloatArray:
            with torch.inference_mode():
                on_device = torch.from_numpy(np.stack(batch)).to(self._placement.device)
                features: FloatArray = self._encoder.encode_images(on_device).cpu().numpy()
            return features

        return self._stack(map(encode, self._batches(pictures)))

    def _batches(self, pictures: Iterable[Picture]) -> Iterator[list[npt.NDArray[np.uint8]]]:
        resized = (self._resize(_read(picture)) for picture in pictures)
        while batch := list(islice(resized, self._placement.batch_size)):
            yield batch

    def _stack(self, parts: Iterable[FloatArray]) -> FloatArray:
        return np.concatenate([np.zeros((0, self.spec.embed_dim), np.float32), *parts])


def _read(picture: Picture) -> npt.NDArray[np.uint8]:
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture))
    array = np.array(picture, order="C")  # a copy: torch takes none that is read-only or mirrored
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(
            f"A picture has type {array.dtype} and shape {array.shape}", "give uint8 RGB of shape (height, width, 3)"
        )
    return array


def load_model(
    model: str = DEFAULT_MODEL,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    trust: bool = False,
) -> LoadedModel:
    """Load a model that turns prompts and pictures into vectors, to compare with cached features of the same model.

    Args:
        model: as `ExtractOptions.model`.
        weights: path of a file with the model's weights; None takes what the name means by itself.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "bf16" or "fp16"; OpenAI's models compute prompts in fp32 in any case.
        trust: open a TorchScript archive that is not OpenAI's own; such a file can run code.

    Raises:
        UsageError: if the model is unknown, or this machine does not have the device or the precision.
        ModelError: if the weights are missing, damaged or of another model.
    """
    placement = place(device, precision)
    return LoadedModel(find_weights(model, weights, DigestMemo()), placement, trust=trust)


def load_reference_encoder(
    model: str,
    weights_sha256: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    trust: bool = False,
) -> LoadedModel:
    """Load the model that made cached features, in float32 and one picture at a time, for exact results.

    Args:
        model: the name that the cache records.
        weights_sha256: the checksum that the cache records.
        weights: path of a file to use; None looks for the one used before, then for what the name means by itself.
        device: "auto", "cpu", "cuda" or "cuda:N".
        trust: as in `load_model`.

    Raises:
        ModelError: if the weights cannot be found, or are not the ones that made the features.
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
    return LoadedModel(found, place(device, "fp32", batch_size=1), trust=trust)
