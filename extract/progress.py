"""What a person sees of a run: one bar in frames, one line per video when asked, a summary at the end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cache.common.quoting import quoted
from .inputs import HashedItem


@dataclass
class Summary:
    """How a run went.

    Attributes:
        extracted: Items encoded in this run, partial ones included.
        cached: Items that needed nothing, copies of another item included.
        partial: Items of which some frames could not be decoded; they are cached with `complete` false.
        failed: Items given up in this run.
        failed_before: Items skipped because they failed in an earlier run.
        frames: Frames cached in this run.
        encoded: Pictures that went through the model: frames without those identical to their predecessor.
        seconds: Wall-clock time.
        decode_wait_seconds: Time in which the encoder had nothing to do but wait for frames.
        encode_seconds: Time in which the run waited for the encoder.
        failures: What was given up and why, by path.
    """

    extracted: int = 0
    cached: int = 0
    partial: int = 0
    failed: int = 0
    failed_before: int = 0
    frames: int = 0
    encoded: int = 0
    seconds: float = 0.0
    decode_wait_seconds: float = 0.0
    encode_seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Frames cached per second of wall-clock time."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; every key names its unit."""
        return {**asdict(self), "frames_per_second": round(self.frames_per_second, 3)}

    def as_json(self) -> str:
        """For programs; surrogates of names that are not UTF-8 are escaped."""
        return json.dumps(self.as_dict(), indent=2)

    def as_text(self) -> str:
        """For people: a line of items and, where something was extracted, one of frames and one of times."""
        videos = f"{self.extracted} extracted, {self.cached} cached, {self.partial} partial, {self.failed} failed"
        if self.failed_before:
            videos += f", {self.failed_before} failed before (--retry-failed tries them again)"
        if not self.extracted:
            return f"Items: {videos}"
        return (
            f"Items: {videos}\n"
            f"Frames: {self.frames} cached, {self.frames_per_second:.1f} frames/s; "
            f"{self.encoded} pictures encoded, identical neighbours once\n"
            f"Time: {self.seconds:.1f} s, of it waiting on decode {self.decode_wait_seconds:.1f} s, "
            f"on encode {self.encode_seconds:.1f} s"
        )


class Progress:
    """One bar over the whole run, on stderr, and only there where somebody can see it.

    Args:
        items: What will be encoded: its sizes stand for the frames of videos not opened yet.
        verbose: Print a line per item.
    """

    def __init__(self, items: list[HashedItem], *, verbose: bool) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._verbose = verbose
        self._bytes = sum(item.size for item in items)
        self._known_bytes = 0
        self._known_frames = 0
        self._done = 0
        self._items = len(items)
        self._bar = tqdm(total=None, unit=" frames", smoothing=0.1, dynamic_ncols=True, disable=None, file=sys.stderr)

    def expect(self, item: HashedItem, frames: int) -> None:
        """The frames of one more item are known."""
        self._known_bytes += item.size
        self._known_frames += frames
        share = self._known_bytes / self._bytes if self._bytes else 1.0
        self._bar.total = max(self._known_frames, round(self._known_frames / share)) if share else self._known_frames
        self._bar.set_postfix_str(f"{self._done + 1}/{self._items} {item.item.path.name[:40]!a}", refresh=False)

    def frames(self, frames: int) -> None:
        """So many more frames are done; negative where work was lost and is done again."""
        self._bar.update(frames)

    def item(self, item: HashedItem, outcome: str) -> None:
        """An item is through."""
        self._done += 1
        if self._verbose:
            self.say(f"{quoted(item.item.path)}: {outcome}")

    def say(self, line: str) -> None:
        """Print a line without tearing the bar."""
        self._tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
