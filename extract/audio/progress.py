"""What a person sees of a run over sounds: a bar in windows, one line per file when asked, a summary at the end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from ...cache.common.quoting import quoted
from ..inputs import HashedItem


@dataclass
class SoundSummary:
    """How a run went.

    Attributes:
        extracted: Files encoded in this run, partial ones included.
        cached: Files that needed nothing, copies of another file included.
        partial: Files of which some sound could not be decoded; they are cached with `complete` false.
        without_audio: Files that have no audio track, now or as found before: no failures.
        failed: Files given up in this run.
        failed_before: Files skipped because they failed in an earlier run.
        windows: Encoded in this run.
        sound_seconds: How long the sound lasts that they were cut from.
        seconds: Wall-clock time.
        failures: What was given up and why, by path.
    """

    extracted: int = 0
    cached: int = 0
    partial: int = 0
    without_audio: int = 0
    failed: int = 0
    failed_before: int = 0
    windows: int = 0
    sound_seconds: float = 0.0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; every key names its unit."""
        return asdict(self)

    def as_json(self) -> str:
        """For programs."""
        return json.dumps(self.as_dict(), indent=2)

    def as_text(self) -> str:
        """For people: a line of files and, where something was extracted, one of windows."""
        files = f"Sound: {self.extracted} extracted, {self.cached} cached, {self.partial} partial, {self.failed} failed"
        if self.without_audio:
            files += f", {self.without_audio} without audio track"
        if self.failed_before:
            files += f", {self.failed_before} failed before (--retry-failed tries them again)"
        if not self.extracted:
            return files
        return (
            f"{files}\nWindows: {self.windows} cached, of {self.sound_seconds:.1f} s of sound, in {self.seconds:.1f} s"
        )


class SoundProgress:
    """A bar of windows, on stderr, and only there where somebody can see it."""

    def __init__(self, files: int, *, verbose: bool) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._verbose = verbose
        self._files = files
        self._begun = 0
        self._bar = tqdm(total=None, unit=" windows", smoothing=0.1, dynamic_ncols=True, disable=None, file=sys.stderr)

    def begin(self, item: HashedItem) -> None:
        """A file is next."""
        self._begun += 1
        self._bar.set_postfix_str(f"{self._begun}/{self._files} {item.item.path.name[:40]!a}", refresh=False)

    def windows(self, count: int) -> None:
        """So many more are done."""
        self._bar.update(count)

    def item(self, item: HashedItem, outcome: str) -> None:
        """A file is through."""
        if self._verbose:
            self.say(f"{quoted(item.item.path)}: {outcome}")

    def say(self, line: str) -> None:
        """Print a line without tearing the bar."""
        self._tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
