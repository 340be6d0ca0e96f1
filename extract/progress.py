"""What a person sees of a run: a bar, one line per item when asked, a summary at the end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cache.common.quoting import quoted
from .inputs import HashedItem


@dataclass
class RunSummary:
    """How a run went, whether over pictures or over sound.

    Attributes:
        extracted: items encoded in this run, partial ones included.
        cached: items that needed nothing, copies of another item included.
        partial: items of which a part could not be decoded; they are cached with `complete` false.
        failed: items given up in this run.
        failed_before: items skipped because they failed in an earlier run.
        seconds: wall-clock time.
        failures: what was given up and why, by path.
    """

    extracted: int = 0
    cached: int = 0
    partial: int = 0
    failed: int = 0
    failed_before: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; every key names its unit."""
        return asdict(self)

    def as_json(self) -> str:
        """For programs; surrogates of names that are not UTF-8 are escaped."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def _counts(self, also: str = "") -> str:
        """How many items ended how, in words; `also` stands before those that failed in an earlier run."""
        counts = f"{self.extracted} extracted, {self.cached} cached, {self.partial} partial, {self.failed} failed{also}"
        if self.failed_before:
            counts += f", {self.failed_before} failed before (--retry-failed tries them again)"
        return counts


@dataclass
class Summary(RunSummary):
    """How a run over pictures went.

    Attributes:
        frames: frames cached in this run.
        encoded: pictures that went through the model: frames without those identical to their predecessor.
        decode_wait_seconds: time in which the encoder waited for frames.
        encode_seconds: time in which the run waited for the encoder.
    """

    frames: int = 0
    encoded: int = 0
    decode_wait_seconds: float = 0.0
    encode_seconds: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """Frames cached per second of wall-clock time."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; every key names its unit."""
        return {**super().as_dict(), "frames_per_second": round(self.frames_per_second, 3)}

    def as_text(self) -> str:
        """For people: a line of items and, where something was extracted, one of frames and one of times."""
        if not self.extracted:
            return f"Items: {self._counts()}"
        return (
            f"Items: {self._counts()}\n"
            f"Frames: {self.frames} cached, {self.frames_per_second:.1f} frames/s; "
            f"{self.encoded} pictures encoded, identical neighbours once\n"
            f"Time: {self.seconds:.1f} s, of it waiting on decode {self.decode_wait_seconds:.1f} s, "
            f"on encode {self.encode_seconds:.1f} s"
        )


@dataclass
class SoundSummary(RunSummary):
    """How a run over sound went.

    Attributes:
        without_audio: files that have no audio track, now or as found before: not failures.
        windows: windows encoded in this run.
        sound_seconds: duration of the sound that they were cut from.
    """

    without_audio: int = 0
    windows: int = 0
    sound_seconds: float = 0.0

    def as_text(self) -> str:
        """For people: a line of files and, where something was extracted, one of windows."""
        files = f"Sound: {self._counts(f', {self.without_audio} without audio track' if self.without_audio else '')}"
        if not self.extracted:
            return files
        return (
            f"{files}\nWindows: {self.windows} cached, of {self.sound_seconds:.1f} s of sound, in {self.seconds:.1f} s"
        )


class Progress:
    """One bar over the whole run, on stderr if that is a terminal; bytes stand for frames of what is not opened yet.

    Args:
        unit: what the bar counts: "frames" or "windows".
        verbose: print a line per item.
    """

    def __init__(self, unit: str, *, verbose: bool) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self.verbose = verbose
        self._bytes = 0
        self._known_bytes = 0
        self._known_frames = 0
        self._done = 0
        self._items = 0
        self._bar = tqdm(total=None, unit=f" {unit}", smoothing=0.1, dynamic_ncols=True, disable=None, file=sys.stderr)

    def found(self, items: int, size_bytes: int) -> None:
        """Take in so many more items, of so many bytes in sum."""
        self._items += items
        self._bytes += size_bytes

    def hashed(self, size_bytes: int) -> None:
        """Take in that so many more bytes are hashed."""

    def skip(self, item: HashedItem) -> None:
        """Take in that an item needs no work."""
        self.found(-1, -item.size)

    def begin(self, item: HashedItem) -> None:
        """Show the item that is next."""
        name = item.item.name.rstrip("/").rpartition("/")[2]
        self._bar.set_postfix_str(f"{self._done + 1}/{self._items} {name[:40]!a}", refresh=False)

    def expect(self, item: HashedItem, frames: int) -> None:
        """Take in the number of frames of one more item."""
        self._known_bytes += item.size
        self._known_frames += frames
        share = self._known_bytes / self._bytes if self._bytes else 1.0
        self._bar.total = max(self._known_frames, round(self._known_frames / share)) if share else self._known_frames
        self.begin(item)

    def advance(self, count: int) -> None:
        """Count so many more frames or windows; negative where work was lost and is done again."""
        self._bar.update(count)

    def resume(self, item: HashedItem, frames: int) -> None:
        """Count frames of an item that are there from an interrupted run; they say nothing of the speed of this one."""
        if not self._bar.disable:
            self._bar.initial += frames
            self._bar.last_print_n += frames
            self._bar.n += frames
        self.say(f"clipcache: {quoted(item.item.name)}: {frames} frames are encoded already, by an earlier run")

    def item(self, item: HashedItem, outcome: str) -> None:
        """Count an item as done."""
        self._done += 1
        self.detail(item, outcome)

    def detail(self, item: HashedItem, outcome: str) -> None:
        """Print the line of an item, if there is to be one."""
        if self.verbose:
            self.say(f"{quoted(item.item.name)}: {outcome}")

    def say(self, line: str) -> None:
        """Print a line without breaking the bar."""
        self._tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
