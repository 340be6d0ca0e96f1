"""Videos decoded as a run decodes them, with an encoder that reads the barcode of each picture instead of CLIP."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from barcode import BarcodeError, read_barcode
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.encoded import EncodedItem
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.pipeline import Run
from clipcache.extract.video.resize import ResizeRule
from clipcache.extract.workers.pool import InProcessPool

SIZE = 96
UNREADABLE = -1


class _Pending:
    def __init__(self, features: Any) -> None:
        self._features = features

    def result(self) -> Any:
        return self._features


class _BarcodeReader:
    """Stands in for a `FrameEncoder`: the feature of a picture is its number."""

    in_flight = 1

    def new_batch(self) -> Any:
        import torch

        return torch.empty((64, SIZE, SIZE, 3), dtype=torch.uint8)

    def encode(self, pictures: Any) -> _Pending:
        return _Pending(np.array([[_number(picture)] for picture in pictures.numpy()], np.float32))


def _number(picture: Any) -> int:
    try:
        return read_barcode(picture)
    except BarcodeError:
        return UNREADABLE


@dataclass
class Decoded:
    """What a run said of one video; `RunEvents`."""

    encoded: EncodedItem | None = None
    failure: str = ""
    frames_reported: int = 0
    unused: list[object] = field(default_factory=list)

    def on_open(self, item: HashedItem) -> bool:
        return True

    def on_expected(self, item: HashedItem, frames: int) -> None:
        pass

    def on_frames(self, item: HashedItem, frames: int) -> None:
        self.frames_reported += frames

    def on_encoded(self, encoded: EncodedItem) -> None:
        self.encoded = encoded

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        self.failure = f"{error}: {sentence}"

    @property
    def entry(self) -> EncodedItem:
        assert self.encoded is not None, self.failure
        return self.encoded

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in self.entry.features[:, 0])


def decode_as_a_run(path: Path, decoder: str = "auto", sampling: Sampling = Sampling()) -> Decoded:  # noqa: B008 - frozen
    """Index, share out, decode, prove, and decode again where that is needed: all but CLIP and the cache."""
    decoded = Decoded()
    item = HashedItem(Item(path, "video"), "0" * 64, path.stat().st_size)
    encoder: Any = _BarcodeReader()
    run = Run([item], encoder, decoded, sampling=sampling, decoder=decoder, dtype="float32")
    pool = InProcessPool(SIZE, "pil", ResizeRule("squash", "bilinear"))
    while run.has_work:
        pool.run(run, lambda seconds: None)
        run.batcher.flush()
    return decoded
