"""Decide what a run over sounds will do: one step per file. Nothing is decoded or loaded here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.common.errors import UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import printable, quoted
from ...cache.failure_log import NO_AUDIO, Failure, FailureLog
from ...cache.format.names import model_dir_name
from ...cache.store import FeatureCache
from ..inputs import HashedItem, Item
from ..plan import Action, Step, plan
from ..prepare import check_is_folder, hash_readable
from .weights import ClapFiles, find_clap
from .windows import Windows

DEFAULT_WINDOWS = Windows()


@dataclass(frozen=True)
class SoundOptions:
    """How to extract sound. The defaults are those of the command line.

    Attributes:
        weights: Folder of a saved CLAP model; None takes the published one, downloaded on first use.
        windows: What is encoded.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch_size: Windows per batch; None chooses by device.
        dtype: "float16" or "float32", of the cached features.
        overwrite: Encode again what is cached.
        retry_failed: Try again what failed before.
        verbose: One line per file on stderr.
    """

    weights: Path | None = None
    windows: Windows = DEFAULT_WINDOWS
    device: str = "auto"
    batch_size: int | None = None
    dtype: str = "float16"
    overwrite: bool = False
    retry_failed: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class PreparedSound:
    """A run that is decided but not begun.

    Attributes:
        cache_dir: Where entries go.
        files: The model.
        model_dir: Folder of the cache for it.
        steps: One per file.
        known: What failed before, by the content's sha256; files without audio track among it.
        options: As asked for.
    """

    cache_dir: Path
    files: ClapFiles
    model_dir: str
    steps: list[Step]
    known: dict[str, Failure]
    options: SoundOptions

    @property
    def work(self) -> list[HashedItem]:
        """Files whose sound will be decoded."""
        return [step.item for step in self.steps if step.is_work]

    def action(self, step: Step) -> str:
        """What becomes of a file, in words."""
        return "no audio" if step.action is Action.FAILED_BEFORE and self.lacks_audio(step.item) else step.action.value

    def lacks_audio(self, item: HashedItem) -> bool:
        """Whether it was found out before that a file has no audio track."""
        known = self.known.get(item.sha256)
        return known is not None and known.error == NO_AUDIO

    def as_text(self) -> str:
        """One line per file, and the count of each action."""
        lines = [f"{self.action(step):<12} {quoted(step.item.item.path)}" for step in self.steps]
        counts = Counter(map(self.action, self.steps))
        return "\n".join([*lines, ", ".join(f"{count} {action}" for action, count in counts.items())])

    def rows(self) -> list[dict[str, Any]]:
        """One object per file, for JSON: path, kind, sha256, bytes, action."""
        return [
            {
                "path": printable(str(step.item.item.path)),
                "kind": step.item.item.kind,
                "sha256": step.item.sha256,
                "bytes": step.item.size,
                "action": self.action(step),
            }
            for step in self.steps
        ]


def prepare_sounds(items: Sequence[Item], cache_dir: Path, options: SoundOptions) -> PreparedSound:
    """Hash the inputs and decide what to do with each; pictures among them are left out.

    Raises:
        UsageError: No video and no audio file is among them, not one can be read, or a package is missing.
        ModelError: There is no such model, or it cannot serve.
    """
    check_is_folder(cache_dir)
    memo = DigestMemo()
    heard = [item for item in items if not item.images]
    if not heard:
        raise UsageError("There is no video and no audio file among the inputs", "name one, or leave out the sound")
    files = find_clap(options.weights, memo)
    model_dir = model_dir_name(files.model, files.sha256)
    hashed = hash_readable(heard, memo)
    cache = FeatureCache(cache_dir) if cache_dir.is_dir() else None
    known = FailureLog(cache_dir).read(model_dir) if cache is not None else {}

    def is_cached(sha256: str) -> bool:
        return cache is not None and cache.find(model_dir, sha256, options.windows.sampling) is not None

    steps = plan(hashed, is_cached, known, overwrite=options.overwrite, retry_failed=options.retry_failed)
    return PreparedSound(cache_dir, files, model_dir, steps, known, options)
