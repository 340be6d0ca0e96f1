"""Which code opens a model: OpenAI's own, open_clip's, or a package's that registered an encoder.

The name decides, so that a cache entry, which records it, leads back to the model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from ...cache.common.hashing import DigestMemo
from ...cache.format.names import canonical_model
from . import open_clip, openai, plugins
from .contract import Encoder
from .placement import Placement
from .weights import DEMO_MODEL, OPENAI_MODELS, WeightsFile


class _Family(Protocol):
    """A module for one kind of model."""

    def find_weights(self, model: str, weights: Path | None, memo: DigestMemo) -> WeightsFile: ...

    def open_encoder(
        self, weights: WeightsFile, placement: Placement, *, trust: bool = False, texts: bool = True
    ) -> Encoder: ...


def find_weights(model: str, weights: str | os.PathLike[str] | None, memo: DigestMemo) -> WeightsFile:
    """Say which weights a request means.

    For OpenAI's models nothing is loaded or downloaded. open_clip's weights are known by the checksum of their file, so
    a file that is not there yet is downloaded; encoders of other packages are opened to ask for theirs.

    Args:
        model: `--model`.
        weights: `--weights`; None takes those that the name stands for.
        memo: gives checksums of files.

    Raises:
        UsageError: if the model is unknown, or known only together with a weights file.
        ModelError: if the weights are missing, cannot be fetched, or do not fit the architecture named.
    """
    return _family(model).find_weights(model, None if weights is None else Path(weights), memo)


def open_encoder(weights: WeightsFile, placement: Placement, *, trust: bool = False, texts: bool = True) -> Encoder:
    """Load a model.

    Args:
        weights: from `find_weights`.
        placement: where to compute, and in which precision.
        trust: as in `weights.load_clip`.
        texts: whether prompts will be encoded; False saves the memory of the text encoder.

    Raises:
        ModelError: if the weights are missing, damaged, or of another model than their name says.
    """
    return _family(weights.model).open_encoder(weights, placement, trust=trust, texts=texts)


def _family(model: str) -> _Family:
    if (name := canonical_model(model)) in OPENAI_MODELS or name == DEMO_MODEL:
        return openai
    if model.startswith(open_clip.PREFIXES):
        return open_clip
    return plugins if plugins.find_entry_point(model) else openai
