"""Shards: a run takes the part of a library whose paths have its number, so that none hashes the videos of another."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from ...cache.common.errors import UsageError

_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
_BY_HAND = "--shard $SLURM_ARRAY_TASK_ID/N, with N shards in all"
_SPECIAL_STEPS = 0xFFFFFFF0  # numbers from here on are those of shells and batch scripts, which are one process


@dataclass(frozen=True)
class Shard:
    """One part of a library. Every item is in exactly one of `count`, and adding an item moves no other.

    Attributes:
        index: from 0 to `count` - 1.
        count: number of shards, 1 or more.

    Raises:
        UsageError: if there is no such shard.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"The shard {self} is one of none", "give 0/1 for the whole library")
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"There is no shard {self}: shards are counted from 0", f"give one from 0/{self.count} to {self._last}"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def _last(self) -> str:
        return f"{self.count - 1}/{self.count}"

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """The shard that `--shard` names: "3/64", or "auto" for that of this task.

        Raises:
            UsageError: if the text is neither, there is no such shard, or the environment does not say which.
        """
        if text == "auto":
            return shard_of_task(environment)
        if (match := _TEXT.fullmatch(text)) is None:
            raise UsageError(f"{text!r} is not a shard", "give i/n, such as 0/64 for the first of 64, or auto")
        return cls(int(match[1]), int(match[2]))

    def contains(self, place: str) -> bool:
        """Whether an item is in this shard.

        Args:
            place: of the item in its library, `Item.place`.
        """
        return number_of(place, self.count) == self.index


def number_of(place: str, count: int) -> int:
    """The number, from 0, of the one of `count` shards that holds an item; the same on every machine.

    Some file systems store "é" as two characters: both spellings of a name are in one shard.
    """
    spelled = unicodedata.normalize("NFC", place).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(spelled).digest()[:8], "big") % count


def as_ranges(numbers: Iterable[int]) -> str:
    """Numbers as `sbatch --array` takes them: "0-3,7,12-15"; "" where there are none."""
    ranges = []
    for _, group in groupby(enumerate(sorted(set(numbers))), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        ranges.append(f"{run[0]}-{run[-1]}" if run[1:] else f"{run[0]}")
    return ",".join(ranges)


def shard_of_task(environment: Mapping[str, str]) -> Shard:
    """The shard of this process, as SLURM or torchrun count their tasks.

    Of an array of A tasks, each of which starts P processes, there are A * P shards. SLURM sets `SLURM_PROCID` and
    `SLURM_NTASKS` in a batch script as well, which is a single process whatever number of tasks was asked for: they
    count only within a step (`srun`), which `SLURM_STEP_ID` tells.

    Raises:
        UsageError: if nothing says which shard this is, an array has gaps, or a value is not a number in range.
    """
    array = _of_array(environment)
    processes = _of_processes(environment, within_array=array is not None)
    if array is None and processes is None:
        raise UsageError(
            "--shard auto finds neither an array of SLURM, nor a step started by srun, nor RANK and WORLD_SIZE",
            "name the shard: --shard i/n",
        )
    outer, inner = array or Shard(0, 1), processes or Shard(0, 1)
    return Shard(outer.index * inner.count + inner.index, outer.count * inner.count)


def _of_array(environment: Mapping[str, str]) -> Shard | None:
    if not environment.get("SLURM_ARRAY_TASK_ID"):
        return None
    task, first, last, count = (
        _number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "MAX", "COUNT")
    )
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") if environment.get("SLURM_ARRAY_TASK_STEP") else 1
    if step < 1 or (last - first) // step + 1 != count or not first <= task <= last or (task - first) % step:
        raise UsageError(
            f"This array has gaps ({count} tasks from {first} to {last}), so its tasks do not number the shards",
            f"use {_BY_HAND}",
        )
    return Shard((task - first) // step, count)


def _of_processes(environment: Mapping[str, str], *, within_array: bool) -> Shard | None:
    """Whoever started this process last counts: torchrun, or a step. Plain RANK and WORLD_SIZE are asked last."""
    is_torchrun = bool(environment.get("TORCHELASTIC_RUN_ID"))
    step = environment.get("SLURM_STEP_ID") or environment.get("SLURM_STEPID") or ""
    is_step = step.isascii() and step.isdigit() and int(step) < _SPECIAL_STEPS
    has_ranks = bool(environment.get("RANK") and environment.get("WORLD_SIZE"))
    if is_step and not (is_torchrun and has_ranks):
        count = "SLURM_STEP_NUM_TASKS" if environment.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"
        if environment.get("SLURM_PROCID") and environment.get(count):
            return _checked(environment, "SLURM_PROCID", count)
    if has_ranks and (is_torchrun or not within_array):
        return _checked(environment, "RANK", "WORLD_SIZE")
    return None


def _checked(environment: Mapping[str, str], index: str, count: str) -> Shard:
    one, of = _number(environment, index), _number(environment, count)
    if one >= of:
        raise UsageError(f"{index} is {one} where {count} is {of}", "name the shard: --shard i/n")
    return Shard(one, of)


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise UsageError(f"{name} is {value!r} where a number belongs", "name the shard: --shard i/n")
    return int(value)
