"""What the processes that encode are asked, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass

from ...cache.common.errors import ClipcacheError
from ..models.contract import EncoderSpec


@dataclass(frozen=True)
class Encode:
    """Encode the first `count` pictures of a shared batch."""

    batch: int
    count: int


@dataclass(frozen=True)
class Ready:
    """The model is loaded.

    Attributes:
        spec: its properties.
        min_batch: as of `PictureEncoder`.
        capacity: batches that the process takes at once, so that its device need not wait for the next.
    """

    spec: EncoderSpec
    min_batch: int
    capacity: int


@dataclass(frozen=True)
class Encoded:
    """The features of a shared batch are in it."""

    batch: int


@dataclass(frozen=True)
class Failed:
    """The process can do no more."""

    error: ClipcacheError


Answer = Ready | Encoded | Failed
