"""Prepare a run over sounds: what is asked for, what is there, and how to decide what each file needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cache.common.errors import UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.failure_log import NO_AUDIO
from ...cache.format.names import model_dir_name
from ..inputs import HashedItem, Item
from ..options import SoundOptions
from ..plan import Action, Prepared, Step
from ..prepare import check_is_folder, planner_for
from .weights import ClapFiles, find_clap


@dataclass(frozen=True)
class PreparedSound(Prepared):
    """A run over sounds that can begin; files without an audio track are among the known failures.

    Attributes:
        files: the model.
        options: as asked for.
    """

    files: ClapFiles
    options: SoundOptions

    def action(self, step: Step) -> str:
        """What happens to a file, in words."""
        return "no audio" if step.action is Action.FAILED_BEFORE and self.lacks_audio(step.item) else step.action.value

    def lacks_audio(self, item: HashedItem) -> bool:
        """Whether it was found out before that a file has no audio track."""
        known = self.known_failures.get(item.sha256)
        return known is not None and known.error == NO_AUDIO


def prepare_sounds(items: Sequence[Item], cache_dir: Path, options: SoundOptions) -> PreparedSound:
    """Find the model and what is cached; pictures among the inputs are left out.

    Raises:
        UsageError: if no video and no audio file is among them, or a package is missing.
        ModelError: if there is no such model, or it cannot be used.
    """
    check_is_folder(cache_dir)
    memo = DigestMemo()
    candidates = [item for item in items if not item.images]
    if not candidates and options.shard is None:
        raise UsageError("There is no video and no audio file among the inputs", "name one, or leave out the sound")
    files = find_clap(options.weights, memo)
    model_dir = model_dir_name(files.model, files.sha256)
    sampling = options.windows.sampling
    planner, failed = planner_for(
        cache_dir, model_dir, options, lambda cache, sha256: cache.find(model_dir, sha256, sampling)
    )
    return PreparedSound(cache_dir, model_dir, candidates, memo, planner, failed, files, options)
