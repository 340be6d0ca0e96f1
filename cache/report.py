"""The text and JSON that `clipcache cache` prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .common.quoting import one_line
from .common.render import table_lines
from .entry import Entry
from .failure_log import Failure
from .format.guard import OpenEntry
from .format.packed import packed_file_of
from .store import FeatureCache
from .verify import Finding

_LS_HEAD = ("VIDEO", "MODEL", "FRAMES", "SECONDS", "SAMPLING", "COMPLETE", "PRECISION", "QUALITY", "MB", "ENTRY")
_RIGHT_ALIGNED = frozenset(map(_LS_HEAD.index, ("FRAMES", "SECONDS", "MB")))


def describe(entry: Entry) -> dict[str, Any]:
    """Everything about one entry, ready for JSON: its path, what it holds, and every attribute.

    Raises:
        EntryError: if the entry is bad.
    """
    with entry.opened() as opened:
        held = {
            "path": one_line(entry.path),
            "file_bytes": _file_bytes(entry, opened),
            "frames": len(opened.timestamps_ms),
            "feature_dtype": str(opened.features.dtype),
            "first_timestamp_ms": float(opened.timestamps_ms[0]),
            "last_timestamp_ms": float(opened.timestamps_ms[-1]),
            "has_frame_names": opened.frame_names is not None,
            "quality": sorted(opened.quality),
        }
        return held | dataclasses.asdict(opened.attributes)


def _file_bytes(entry: Entry, opened: OpenEntry) -> int:
    """Size of the entry's own file; in a packed file, what its features take."""
    if packed_file_of(entry.path):
        return int(np.prod(opened.features.shape)) * int(opened.features.dtype.itemsize)
    return entry.path.stat().st_size


def info_text(described: dict[str, Any]) -> str:
    """One line for each thing that `describe` tells, names aligned."""
    shown = {name: _shown(value) or "not known" for name, value in described.items()}
    if described["frames_corrupt"] < 0:
        shown["frames_corrupt"] = "not counted"
    return "".join(table_lines(shown.items())).rstrip("\n")


def ls_text(entries: Sequence[dict[str, Any]], cache: FeatureCache, *, with_paths: bool = False) -> str:
    """A table of entries, as `describe` gives them, and a line of totals; `with_paths`, also where each video was."""
    head = (*_LS_HEAD, *(["PATH"] * with_paths))
    rows = [
        (
            one_line(one["video_name"]),
            one_line(one["model"]),
            str(one["frames"]),
            f"{one['duration_s']:.2f}",
            one_line(one["sampling"]),
            _shown(one["complete"]),
            one_line(one["precision"]),
            _shown(bool(one["quality"])),
            f"{one['file_bytes'] / 1e6:.2f}",
            one_line(Path(one["path"]).name),
            *([one_line(one["source_path"]) or "not known"] * with_paths),
        )
        for one in entries
    ]
    frames = sum(one["frames"] for one in entries)
    megabytes = sum(one["file_bytes"] for one in entries) / 1e6
    total = f"{len(entries)} entries, {frames} frames, {megabytes:.2f} MB in {one_line(cache.directory)}"
    return "".join([*table_lines([head, *rows], _RIGHT_ALIGNED), total]) if rows else total


def verify_text(findings: Iterable[Finding]) -> str:
    """The bad entries, one a line, and a line of totals."""
    findings = list(findings)
    bad = [one_line(finding.problem) for finding in findings if finding.problem is not None]
    return "\n".join([*bad, f"{len(findings)} entries checked: {len(findings) - len(bad)} good, {len(bad)} bad"])


def findings_json(findings: Iterable[Finding]) -> str:
    """A list of `{"path", "problem"}`, problem null for a good entry."""
    return to_json([{"path": one_line(one.path), "problem": one.problem} for one in findings])


def to_json(value: object) -> str:
    """Indented JSON in ASCII, which any terminal can show."""
    return json.dumps(value, indent=2, allow_nan=False)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(one_line, value)) or "none"
    return one_line(value)


def failures_text(failures: Sequence[Failure]) -> str:
    """A line for each failure: when, of which model, and the sentence that says which file and why."""
    if not failures:
        return "Nothing failed."
    head = ("TIME", "MODEL", "FAILURE")
    rows = [head, *(tuple(map(one_line, (one.time, one.model_dir, one.sentence))) for one in failures)]
    return "".join(table_lines(rows)).rstrip("\n")
