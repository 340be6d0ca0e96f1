"""How far the runs over a shared cache are: what is done, what failed, who is at what, what is left."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from ...cache.common.errors import EntryError, UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import quoted
from ...cache.failure_log import NO_AUDIO, Failure, FailureLog
from ...cache.format.names import is_clap, model_dir_name, parse_model_dir_name
from ...cache.format.sampling import Sampling
from ...cache.format.schema import storable_path
from ...cache.listing import FolderIndex
from ...cache.store import FeatureCache
from ..inputs import Item
from .claims import Claim, claim_name, list_claims
from .recognition import Bar, Entries, Recognised, hash_unknown, recognise
from .shards import as_ranges, number_of


class State(Enum):
    """What has become of an item. The values are keys of the JSON of `cache status`."""

    DONE = "done"
    PARTIAL = "partial"
    BAD = "bad"
    NO_AUDIO = "no_audio"
    FAILED = "failed"
    CLAIMED = "claimed"
    OUTSTANDING = "outstanding"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Problem:
    """An item, or an entry, that is not as it should be.

    Attributes:
        state: `FAILED`, `BAD` or `UNREADABLE`.
        path: of the item; of a bad entry its own.
        sentence: what is wrong.
    """

    state: State
    path: str
    sentence: str


@dataclass(frozen=True)
class Library:
    """The inputs of a status.

    Attributes:
        items: each of them, and what it was recognised by.
        outstanding: those that are left to be done and that no run is at.
    """

    items: list[Recognised]
    outstanding: list[Item]

    def array(self, shards: int) -> str:
        """Those of so many shards that have something outstanding, as `sbatch --array` takes them; "" for none."""
        return as_ranges(number_of(item.place, shards) for item in self.outstanding)


@dataclass(frozen=True)
class Status:
    """How far the runs with one model are.

    Attributes:
        model_dir: folder of the model; "" where the cache holds nothing of it.
        counts: items in each state; of a cache alone, entries, failures and claims.
        problems: what failed, is bad, or cannot be read.
        claims: of all runs, those of runs that are gone included.
        library: the inputs; None where the cache alone was asked about.
    """

    model_dir: str
    counts: Counter[State]
    problems: list[Problem]
    claims: list[Claim]
    library: Library | None = None


def choose_models(cache_dir: Path, model: str | None, weights: Path | None, memo: DigestMemo) -> list[str]:
    """The folders of a cache that a request means: of models with entries, failures or claims.

    Args:
        cache_dir: the cache; it need not exist.
        model: `--model`; None for all.
        weights: `--weights`; None for all weights of the model.
        memo: gives checksums of files.

    Raises:
        UsageError: if the model needs other options.
        ModelError: if there are no such weights.
    """
    if weights is not None:
        return [_exact(model or "", weights, memo)]
    names = {*FolderIndex(cache_dir).model_dirs(), *(one.model_dir for one in FailureLog(cache_dir).read().values())}
    parsed = [parse_model_dir_name(name) for name in sorted(names)]
    return [one.name for one in parsed if one is not None and (model is None or one.matches(model))]


def _exact(model: str, weights: Path, memo: DigestMemo) -> str:
    from ..audio.weights import find_clap
    from ..models.registry import find_weights
    from ..models.weights import DEFAULT_MODEL

    found = find_clap(weights, memo) if is_clap(model) else find_weights(model or DEFAULT_MODEL, weights, memo)
    return model_dir_name(found.model, found.sha256)


def status_of_cache(cache_dir: Path, model_dir: str, bar: Bar) -> Status:
    """What a cache holds of one model; `bar` shows the progress over the entries."""
    counts: Counter[State] = Counter()
    problems = []
    entries = Entries(FeatureCache(cache_dir), model_dir)
    for path in bar(entries.paths):
        state, sentence = _state_of_entry(entries, path)
        counts[state] += 1
        if sentence:
            problems.append(Problem(state, os.fspath(path), sentence))
    for failure in FailureLog(cache_dir).read(model_dir).values():
        state = _state_of_failure(failure)
        counts[state] += 1
        if state is State.FAILED:
            problems.append(Problem(state, failure.path, failure.sentence))
    claims = list_claims(cache_dir / model_dir)
    counts[State.CLAIMED] = sum(not claim.is_stale for claim in claims)
    return Status(model_dir, counts, problems, claims)


def status_of_library(
    items: Sequence[Item],
    cache_dir: Path,
    model_dir: str,
    sampling: Sampling,
    memo: DigestMemo,
    bar: Bar,
    *,
    hashing: bool = False,
) -> Status:
    """What has become of each item.

    Args:
        items: of the library.
        cache_dir: the cache; it need not exist.
        model_dir: its folder for the model's weights; "" where there is none.
        sampling: the frames, or windows, that are asked for.
        memo: remembers checksums.
        bar: shows the progress over the items.
        hashing: read what is not recognised.
    """
    # In this order: of what is finished meanwhile there is an entry, where there is no claim any more.
    claims = list_claims(cache_dir / model_dir) if model_dir else []
    entries = Entries(FeatureCache(cache_dir), model_dir) if model_dir and cache_dir.is_dir() else None
    judge = _Judge(FailureLog(cache_dir).read(model_dir), claims, entries, sampling)
    counts: Counter[State] = Counter()
    known, problems, outstanding = [], [], []
    for first in bar(recognise(items, memo, entries, bar)):
        one = hash_unknown(first, memo) if hashing else first
        state, sentence = judge(one)
        known.append(one)
        counts[state] += 1
        if state in (State.FAILED, State.BAD, State.UNREADABLE):
            problems.append(Problem(state, one.item.name, sentence))
        elif state is State.OUTSTANDING:
            outstanding.append(one.item)
    return Status(model_dir, counts, problems, claims, Library(known, outstanding))


class _Judge:
    """Says what has become of an item, and why.

    Args:
        failures: what failed with the model, by `Failure.key`.
        claims: on items of the model.
        entries: of the model; None where there are none.
        sampling: the frames that are asked for.
    """

    def __init__(
        self, failures: Mapping[str, Failure], claims: Sequence[Claim], entries: Entries | None, sampling: Sampling
    ) -> None:
        self._sampling = sampling
        self._entries = entries
        self._failures = failures
        self._failures_by_path = {storable_path(one.path): one for one in failures.values()}
        suffix = claim_name("", sampling)
        live = [claim for claim in claims if not claim.is_stale and claim.name[16:] == suffix]
        self._claimed = {claim.name for claim in live} | {claim.path for claim in live if claim.path}

    def __call__(self, one: Recognised) -> tuple[State, str]:
        if one.problem:
            return State.UNREADABLE, one.problem
        if one.sha256 and self._entries is not None and (path := self._entries.find(one.sha256, self._sampling)):
            return _state_of_entry(self._entries, path)
        if (claim_name(one.sha256, self._sampling) if one.sha256 else storable_path(one.item.name)) in self._claimed:
            return State.CLAIMED, ""
        if failure := self._failure(one):
            return _state_of_failure(failure), failure.sentence
        return State.OUTSTANDING, ""

    def _failure(self, one: Recognised) -> Failure | None:
        """By the content; where it is not known, by the path of a file that was not modified since it failed."""
        if one.sha256:
            return self._failures.get(one.sha256)
        failure = self._failures_by_path.get(storable_path(one.item.name))
        if failure is None or not failure.sha256:
            return None
        try:
            return failure if datetime.fromisoformat(failure.time).timestamp() >= one.modified else None
        except ValueError:
            return None


def _state_of_entry(entries: Entries, path: Path) -> tuple[State, str]:
    try:
        return State.DONE if entries.attributes(path).complete else State.PARTIAL, ""
    except EntryError as error:
        return State.BAD, str(error)


def _state_of_failure(failure: Failure) -> State:
    return State.NO_AUDIO if failure.error == NO_AUDIO else State.FAILED


def one_model(found: Sequence[str], cache_dir: Path) -> str:
    """The one model that a request means; "" if the cache has none.

    Raises:
        UsageError: if there are several.
    """
    if len(found) > 1:
        raise UsageError(f"The cache {quoted(cache_dir)} holds {', '.join(found)}", "choose one with --model")
    return found[0] if found else ""
