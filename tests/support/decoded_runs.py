"""Videos decoded as a run decodes them, with an encoder that reads pictures instead of CLIP, and decoded plainly.

The "features" of a picture are the number that its barcode says and a checksum of its pixels, scaled to `SIZE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from barcode import BarcodeError, read_barcode
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.encoded import EncodedItem
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.pipeline import Run
from clipcache.extract.video.delivery import upright
from clipcache.extract.video.index import quarter_turns
from clipcache.extract.video.proof import checksum
from clipcache.extract.video.resize import ResizeRule, make_resize
from clipcache.extract.workers.pool import InProcessPool

SIZE = 96
UNREADABLE = -1
RULE = ResizeRule("squash", "bilinear")  # whole pictures, so that barcodes stay readable

Mark = tuple[int, int]
"""Number and checksum of a picture."""


class _Pending:
    def __init__(self, features: Any) -> None:
        self._features = features

    def result(self) -> Any:
        return self._features


class _PictureReader:
    """Stands in for a `FrameEncoder`."""

    in_flight = 1

    def new_batch(self) -> Any:
        import torch

        return torch.empty((64, SIZE, SIZE, 3), dtype=torch.uint8)

    def encode(self, pictures: Any) -> _Pending:
        return _Pending(np.array([_feature(picture) for picture in pictures.numpy()], np.float32))


def _feature(picture: Any) -> tuple[int, int, int]:
    """Number and checksum; in halves, which float32 holds exactly."""
    found = checksum(picture)
    return _number(picture), found >> 16, found & 0xFFFF


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

    @property
    def marks(self) -> list[Mark]:
        return [(int(number), int(high) << 16 | int(low)) for number, high, low in self.entry.features]


def decode_as_a_run(path: Path, decoder: str = "auto", sampling: Sampling = Sampling()) -> Decoded:  # noqa: B008 - frozen
    """Index, share out, decode, prove, and decode again where that is needed: all but CLIP and the cache."""
    decoded = Decoded()
    item = HashedItem(Item(path, "video"), "0" * 64, path.stat().st_size)
    encoder: Any = _PictureReader()
    run = Run([item], encoder, decoded, sampling=sampling, decoder=decoder, dtype="float32")
    pool = InProcessPool(SIZE, "pil", RULE)
    while run.has_work:
        pool.run(run, lambda seconds: None)
        run.batcher.flush()
    return decoded


def decode_plainly(path: Path, options: Mapping[str, str] | None = None) -> list[Mark]:
    """Decode from start to end with PyAV, in the decoder's output order: what a player shows."""
    resize = make_resize(SIZE, "pil", RULE)
    marks = []
    with av.open(str(path), options=dict(options or {})) as container:
        for packet in container.demux(container.streams.best("video")):
            for frame in packet.decode():
                picture = resize(upright(frame.to_ndarray(format="rgb24"), quarter_turns(frame.rotation)))
                marks.append((_number(picture), checksum(picture)))
    return marks
