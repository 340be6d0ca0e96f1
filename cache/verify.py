"""Checking a cache: every byte of every entry is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .common.atomic import remove_file
from .common.errors import EntryError, UncheckedEntryError
from .common.paths import StrPath, is_file
from .common.progress import counted
from .common.quoting import quoted
from .format.blocks import features_problem
from .format.guard import OpenEntry
from .format.names import parse_entry_name
from .format.packed import checksum_problem, packed_file_of
from .format.read import can_validate, open_entry
from .format.schema import EXTRACT_AGAIN, MOVE_OUT
from .store import FeatureCache
from .vector_store import ReferenceStore, is_vector_name, reference_folder


@dataclass(frozen=True)
class Finding:
    """The result of `verify` for one file.

    Attributes:
        path: of the file.
        problem: one sentence, or None if the entry is good.
        is_judged: whether the content was read; not so where a disk failed, or a newer program wrote it.
    """

    path: Path
    problem: str | None
    is_judged: bool = True


def verify(cache: FeatureCache, model: str | None = None) -> Iterator[Finding]:
    """Check every entry (of one model, if named) in order of path, one finding each.

    The remembered embeddings of prompts and images follow, one finding each as well.

    Checked: the structure and schema, checksums of all data, finite features and timestamps, the order of frames, the
    counts and names against the attributes. A packed library as a whole is a finding only if its checksum is wrong.
    """
    is_packed = is_file(cache.directory)
    if is_packed and (problem := checksum_problem(cache.directory)):
        yield Finding(cache.directory, problem)
    folders = {one.name for one in cache.models() if model is None or one.matches(model)}
    paths = [path for path in cache.files() if model is None or path.parent.parent.name in folders]
    for path in counted(paths, "Verifying", len(paths)):
        finding = _finding(path)
        # Another run may have replaced it by an entry with more frames: a file that is gone is not bad.
        if finding.problem is None or packed_file_of(path) or path.exists():
            yield finding
    for folder in sorted(folders):
        store = ReferenceStore(reference_folder(cache.directory), folder)
        for path, trouble in store.problems():
            remedy = "remove it, and it is computed again" if is_vector_name(path.name) else MOVE_OUT
            yield Finding(path, trouble and f"{quoted(path)} {trouble}; {remedy}.")


def remove_bad(findings: Iterable[Finding]) -> list[Path]:
    """Remove the files found bad, except those that cannot be read here or have a newer schema.

    A file that does not have the name of an entry, or of a remembered embedding, is not ours and stays.
    A packed library, which holds good entries too, is never removed, nor is anything taken out of it.

    Returns:
        The files removed.

    Raises:
        CacheError: if one cannot be removed.
    """
    removed = []
    for path in (finding.path for finding in findings if finding.problem is not None and finding.is_judged):
        if is_vector_name(path.name) or (parse_entry_name(path.name) and _is_bad(path)):
            remove_file(path)
            removed.append(path)
    return removed


def _is_bad(path: Path) -> bool:
    """Whether an entry is bad now: what failed may have passed, or another run may have replaced the file."""
    if not can_validate(path):
        return False
    finding = _finding(path)
    return finding.problem is not None and finding.is_judged


def problem_of(path: StrPath) -> str | None:
    """What is wrong with the entry at `path`, as one sentence; None if nothing."""
    return _finding(Path(path)).problem


def _finding(path: Path) -> Finding:
    try:
        with open_entry(path) as entry:
            problem = _name_problem(path) or _count_problem(entry) or _data_problem(entry)
    except EntryError as error:
        return Finding(path, str(error), not isinstance(error, UncheckedEntryError))
    return Finding(path, problem and f"{quoted(path)} {problem}; {EXTRACT_AGAIN}.")


def _name_problem(path: Path) -> str | None:
    """What `open_entry` leaves to the caller, as an entry may lie anywhere; a cache holds none but its own."""
    name = parse_entry_name(path.name)
    if name is None:
        return "does not have the name of an entry"
    return None if path.parent.name == name.sha16[:2] else "lies in the folder of other videos"


def _count_problem(entry: OpenEntry) -> str | None:
    """What the attributes say of the number of frames and is not so; `open_entry` checks each attribute by itself."""
    attributes = entry.attributes
    frames = len(entry.timestamps_ms)
    holds_all = attributes.sampling == "all"
    if frames > attributes.frames_decoded or (holds_all and frames < attributes.frames_decoded):
        return f"holds {frames} frames but says that {attributes.frames_decoded} were decoded"
    if attributes.complete and holds_all and frames < attributes.frames_expected:
        return f"holds {frames} of {attributes.frames_expected} frames but says that it is complete"
    return None


def _data_problem(entry: OpenEntry) -> str | None:
    """Reads everything: a wrong checksum raises in `open_entry`."""
    if problem := features_problem(entry.features):
        return f"holds {problem}"
    if entry.frame_names is not None:
        entry.frame_names[:]
    for values in entry.quality.values():
        values[:]
    return None
