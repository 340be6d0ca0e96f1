"""The text and JSON of `clipcache cache status`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...cache.common.quoting import one_line, printable
from ...cache.common.render import table_lines
from .claims import Claim
from .recognition import Known
from .status import Library, Problem, State, Status

_SHOWN = 20
_ALWAYS = (State.DONE, State.OUTSTANDING)


def as_dict(status: Status, cache_dir: Path, shards: int | None) -> dict[str, Any]:
    """One model's status for JSON; docs/cluster.md says what each key means."""
    said: dict[str, Any] = {
        "cache": printable(os.fspath(cache_dir)),
        "model": status.model_dir or None,
        **{state.value: status.counts[state] for state in _states(status.library)},
        "problems": [
            {"state": one.state.value, "path": printable(one.path), "why": one.sentence} for one in status.problems
        ],
        "claims": [_claim_dict(claim) for claim in status.claims],
    }
    if status.library is not None:
        said["items"] = len(status.library.items)
        said |= {known.value: count for known, count in _known(status.library)}
        said["outstanding_paths"] = [printable(item.name) for item in status.library.outstanding]
        said["shards"] = shards
        said["array"] = None if shards is None else status.library.array(shards)
    return said


def to_json(said: object) -> str:
    """Indented JSON in ASCII, which any terminal can show."""
    return json.dumps(said, indent=2, allow_nan=False)


def as_text(status: Status, cache_dir: Path, shards: int | None) -> str:
    """Tables for people; with `shards`, the last line is the option for `sbatch`, or says that nothing is left."""
    parts = [_counts(status, cache_dir)]
    if status.library is not None:
        parts.append(_recognition(status.library))
    if status.problems:
        parts.append(_problems(status.problems))
    if status.claims:
        parts.append(_claims(status.claims))
    if status.library is not None and shards is not None:
        array = status.library.array(shards)
        parts.append(f"--array={array}" if array else "Nothing is outstanding: no shard is left to be run.")
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _states(library: Library | None) -> list[State]:
    of_items = (State.OUTSTANDING, State.UNREADABLE)
    return [state for state in State if library is not None or state not in of_items]


def _counts(status: Status, cache_dir: Path) -> str:
    head = f"{status.model_dir or 'Nothing of this model'} in {one_line(cache_dir)}"
    shown = [one for one in _states(status.library) if status.counts[one] or one in _ALWAYS]
    rows = [(one.value.replace("_", " "), f"{status.counts[one]:,}") for one in shown]
    if status.library is not None:
        rows.append(("all", f"{len(status.library.items):,}"))
    return "".join([f"{head}\n\n", *table_lines([("STATE", "ITEMS"), *rows], right_aligned=(1,))])


def _known(library: Library) -> list[tuple[Known, int]]:
    counts = Counter(one.known for one in library.items if not one.problem)
    return [(known, counts[known]) for known in Known]


def _recognition(library: Library) -> str:
    counts = dict(_known(library))
    said = (
        f"Recognised by checksum: {counts[Known.CHECKSUM]:,}, by path and size: {counts[Known.PATH]:,}, "
        f"by name and size: {counts[Known.NAME]:,}, not recognised: {counts[Known.NOTHING]:,}"
    )
    return f"{said} (--hash reads them)" if counts[Known.NOTHING] else said


def _problems(problems: Sequence[Problem]) -> str:
    rows = [(one.state.value, one_line(one.path), one_line(one.sentence)) for one in problems[:_SHOWN]]
    return "".join([*table_lines([("STATE", "PATH", "WHY"), *rows]), *_more(len(problems))])


def _claims(claims: Sequence[Claim]) -> str:
    rows = [
        (
            one_line(claim.owner.host) if claim.owner else "not known",
            str(claim.owner.pid) if claim.owner else "",
            one_line(claim.since),
            "stale" if claim.is_stale else "alive",
            one_line(claim.path or claim.name),
        )
        for claim in claims[:_SHOWN]
    ]
    return "".join([*table_lines([("CLAIMED BY", "PID", "SINCE", "RUN", "ITEM"), *rows], (1,)), *_more(len(claims))])


def _more(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield f"... and {count - _SHOWN:,} more, which --json lists"


def _claim_dict(claim: Claim) -> dict[str, Any]:
    return {
        "path": claim.path or None,
        "name": claim.name,
        "host": claim.owner.host if claim.owner else None,
        "pid": claim.owner.pid if claim.owner else None,
        "since": claim.since or None,
        "stale": claim.is_stale,
    }
