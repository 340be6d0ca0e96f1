"""Videos decoded as a run decodes them, with an encoder that reads pictures instead of CLIP, and decoded plainly.

The "features" of a picture are the number that its barcode says and a checksum of its pixels, scaled to `SIZE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from barcode import BarcodeError, read_barcode
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.encoded import EncodedItem
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.machine.exactness import checksum_features, checksum_of, run_without_model
from clipcache.extract.machine.plain_decode import RULE, plain_frames
from clipcache.extract.video import segments
from clipcache.extract.video.proof import checksum
from clipcache.extract.video.resize import make_resize
from clipcache.extract.workers.pool import InProcessPool

SIZE = 96
_MIN_SEGMENT_FRAMES = 60
UNREADABLE = -1

Mark = tuple[int, int]
"""Number and checksum of a picture."""


def _feature(picture: Any) -> tuple[int, int, int]:
    """Number and checksum."""
    return _number(picture), *checksum_features(checksum(picture))


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

    def on_open(self, item: HashedItem) -> None:
        pass

    def on_expected(self, item: HashedItem, frames: int) -> None:
        pass

    def on_resumed(self, item: HashedItem, frames: int) -> None:
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
        return [(int(row[0]), checksum_of(row[1:])) for row in self.entry.features]


def decode_as_a_run(path: Path, decoder: str = "auto", sampling: Sampling = Sampling()) -> Decoded:  # noqa: B008 - frozen
    """Index, share out, decode, prove, and decode again where that is needed: all but CLIP and the cache.

    Segments are shorter than in a run, so that short videos are cut too.
    """
    decoded = Decoded()
    pool = InProcessPool(SIZE, "pil", RULE)
    with mock.patch.object(segments, "MIN_SEGMENT_FRAMES", _MIN_SEGMENT_FRAMES):
        run_without_model([Item(path, "video")], pool, decoded, _feature, sampling=sampling, decoder=decoder)
    return decoded


def decode_plainly(path: Path, options: Mapping[str, str] | None = None) -> list[Mark]:
    """Decode from start to end with PyAV, in the decoder's output order: what a player shows."""
    resize = make_resize(SIZE, "pil", RULE)
    pictures = (resize(rgb) for _, _, rgb in plain_frames(path, options))
    return [(_number(picture), checksum(picture)) for picture in pictures]
