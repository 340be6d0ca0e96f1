"""What is seen of a run: how far it is, a line for each item when asked, a summary at the end."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..cache.common.messages import has_bars, say, say_progress
from ..cache.common.progress import LINE_EVERY_S, duration, new_bar
from ..cache.common.quoting import quoted
from .cluster.shards import Shard
from .estimate import Estimate
from .inputs import HashedItem

_REPORT_EVERY_S = 0.5
_BAR = "{percentage:3.0f}%|{bar:10}| {elapsed}{postfix}"


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
        shard: the part of the inputs that the run took; None for all.
    """

    extracted: int = 0
    cached: int = 0
    partial: int = 0
    failed: int = 0
    failed_before: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    shard: Shard | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; every key names its unit."""
        return {**asdict(self), "shard": None if self.shard is None else str(self.shard)}

    def as_json(self) -> str:
        """For programs; surrogates of names that are not UTF-8 are escaped."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def _counts(self, what: str, also: str = "") -> str:
        """How many items, named `what`, ended how; `also` stands before those that failed in an earlier run."""
        part = "" if self.shard is None else f" of shard {self.shard}"
        counts = f"{what}{part}: {self.extracted} extracted, {self.cached} cached"
        counts += f", {self.partial} partial, {self.failed} failed{also}"
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
            return self._counts("Items")
        return (
            f"{self._counts('Items')}\n"
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
        files = self._counts("Sound", f", {self.without_audio} without audio track" if self.without_audio else "")
        if not self.extracted:
            return files
        return (
            f"{files}\nWindows: {self.windows} cached, of {self.sound_seconds:.1f} s of sound, in {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class ProgressReport:
    """How far a run is, for programs; `on_progress` gets one about twice a second and one at the end.

    Attributes:
        items_done: items that are over, failed ones included.
        items_total: items to do: found so far, without those that need no work.
        failed: items given up.
        frames: frames done (of sound: windows), those kept of an interrupted run included.
        frames_per_second: encoded in the recent past, at the end in the whole run; without frames kept.
        bytes_done: bytes of what is done; those of an item begun count in proportion to its frames.
        bytes_total: bytes of the items to do.
        eta_seconds: how long the rest takes, at most so long while inputs are hashed; None where nothing tells.
    """

    items_done: int
    items_total: int
    failed: int
    frames: int
    frames_per_second: float
    bytes_done: int
    bytes_total: int
    eta_seconds: float | None


OnProgress = Callable[[ProgressReport], object]
"""Called with how far a run is, in the thread that runs it; what it raises ends the run."""


class Progress:
    """How far a run is: a bar on a terminal, a line every 30 seconds elsewhere and in a log, reports for programs.

    Args:
        unit: what is counted: "frames" or "windows".
        verbose: say a line for each item.
        show: draw bars and say lines of progress; messages go to the logger in any case.
        on_progress: called with reports.
    """

    def __init__(
        self, unit: Literal["frames", "windows"], *, verbose: bool, show: bool, on_progress: OnProgress | None = None
    ) -> None:
        self.verbose = verbose
        self._unit = unit
        self._items = "items" if unit == "frames" else "files"
        self._show = show
        self._on_progress = on_progress
        self._estimate = Estimate()
        self._failed = 0
        self._name = ""
        self._is_closed = False
        self._started = self._said = self._reported = time.monotonic()
        self._bar: Any = None
        self._hash_bar: Any = None

    def found(self, items: int, size_bytes: int) -> None:
        """More items are found, of so many bytes; each of them is told of later by `skip` or `item`."""
        self._estimate.found(items, size_bytes)
        self.tick()

    def hashed(self, size_bytes: int) -> None:
        """So many more bytes of what was found are hashed."""
        self._estimate.bytes_hashed += size_bytes
        self.tick()

    def skip(self, item: HashedItem) -> None:
        """An item that was found needs no work."""
        self._estimate.skip(item.size)
        self.tick()

    def begin(self, item: HashedItem) -> None:
        """An item is next."""
        self._name = item.item.name.rstrip("/").rpartition("/")[2]
        self._estimate.begin(item.sha256, item.size, time.monotonic())
        self.tick()

    def expect(self, item: HashedItem, frames: int) -> None:
        """Take in the number of frames of one more item; said again, it replaces what was said before."""
        self._estimate.expect(item.sha256, item.size, frames, time.monotonic())
        self.begin(item)

    def advance(self, item: HashedItem | None, count: int) -> None:
        """Count so many more frames or windows, of None if it is not known of what; negative where work was lost."""
        self._estimate.advance(item.sha256 if item else "", count, time.monotonic())
        self.tick()

    def resume(self, item: HashedItem, frames: int) -> None:
        """Count frames of an item that are there from an interrupted run; they say nothing of the speed of this one."""
        self._estimate.resume(item.sha256, frames)
        said = f"{quoted(item.item.name)}: {frames} frames are encoded already, by an earlier run"
        self.say(f"clipcache: {said}", logging.INFO)

    def item(self, item: HashedItem, outcome: str, failed: bool = False) -> None:
        """Count an item as over, and say its line, if there is to be one."""
        self._estimate.finish(item.sha256, item.size)
        self._failed += failed
        self.detail(item, outcome)
        self.tick()

    def detail(self, item: HashedItem, outcome: str) -> None:
        """Say the line of an item, if there is to be one."""
        if self.verbose:
            say(f"{quoted(item.item.name)}: {outcome}", logging.INFO, by_itself=True)

    def say(self, line: str, level: int = logging.WARNING) -> None:
        """Say a line; a command shows it without breaking the bar."""
        say(line, level)

    def tick(self) -> None:
        """Show how far the run is, if it is time to; also to be called while nothing happens."""
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            self._draw(now)
            self._tell(self._report(now))
        if self._show and now - self._said >= LINE_EVERY_S:
            self._said = now
            say_progress(self._line(self._report(now)))

    def close(self) -> None:
        """The run is over: take the bars away, and tell a last time how far it is."""
        if self._is_closed:
            return
        self._is_closed = True
        now = time.monotonic()
        if self._bar is not None:
            self._draw(now)  # in a notebook a bar that is not full looks like a failure
            self._bar.close()
        if self._hash_bar is not None:
            self._hash_bar.close()
        seconds = self._estimate.speed.seconds(now)
        last = replace(self._report(now), frames_per_second=self._estimate.encoded / seconds if seconds > 0 else 0.0)
        if self._show and last.items_total:
            line = f"{self._counts(last)}, in {duration(now - self._started)}"
            say_progress(line, log_only=self._said == self._started)  # of a short run the summary is enough
        self._tell(last)

    def _tell(self, report: ProgressReport) -> None:
        """Call `on_progress`; not again after it has raised something."""
        called, self._on_progress = self._on_progress, None
        if called is not None:
            called(report)
        self._on_progress = called

    def _report(self, now: float) -> ProgressReport:
        estimate = self._estimate
        return ProgressReport(
            items_done=estimate.items_done,
            items_total=estimate.items,
            failed=self._failed,
            frames=estimate.frames,
            frames_per_second=estimate.speed.at(now),
            bytes_done=estimate.bytes_done,
            bytes_total=estimate.bytes,
            eta_seconds=estimate.seconds_left(now),
        )

    def _line(self, report: ProgressReport) -> str:
        """All on one line: "12 of 40 items, 18,204 frames, 94.1 frames/s, 2 failed, about 4 min left"."""
        return ", ".join([self._counts(report), *self._hashing(), *self._left(report)])

    def _counts(self, report: ProgressReport) -> str:
        parts = [
            f"{report.items_done:,} of {report.items_total:,} {self._items}",
            f"{report.frames:,} {self._unit}",
            f"{report.frames_per_second:.1f} {self._unit}/s",
            *([f"{report.failed:,} failed"] if report.failed else []),
        ]
        return ", ".join(parts)

    def _hashing(self) -> list[str]:
        estimate = self._estimate
        if not estimate.is_hashing:
            return []
        return [f"{estimate.bytes_hashed / 1e9:.1f} of {estimate.bytes_found / 1e9:.1f} GB hashed"]

    def _left(self, report: ProgressReport) -> list[str]:
        if report.eta_seconds is None:
            return []
        return [f"{'at most' if self._estimate.is_hashing else 'about'} {duration(report.eta_seconds)} left"]

    def _draw(self, now: float) -> None:
        """Bring the bars up to date, where there can be some."""
        if not (self._show and has_bars()):
            return
        if self._bar is None:
            self._bar = new_bar(now - self._started, total=1, bar_format=_BAR)
        self._draw_hashing(now)
        report = self._report(now)
        self._bar.total = max(report.bytes_total, 1)
        self._bar.n = report.bytes_done
        name = [ascii(self._name[:40])] if self._name else []
        self._bar.set_postfix_str(", ".join([*self._left(report), self._counts(report), *name]), refresh=False)
        self._bar.refresh()

    def _draw_hashing(self, now: float) -> None:
        estimate = self._estimate
        is_first = estimate.is_hashing and not estimate.frames  # later it goes on a little ahead of the frames
        if is_first and self._hash_bar is None:
            self._hash_bar = new_bar(now - self._started, desc="Hashing", unit="B", unit_scale=True)
        if self._hash_bar is not None and is_first:
            self._hash_bar.total = estimate.bytes_found
            self._hash_bar.update(estimate.bytes_hashed - self._hash_bar.n)
        elif self._hash_bar is not None:
            self._hash_bar.close()
            self._hash_bar = None
