"""An export: the chosen entries are named, assigned to files, written piece by piece, and recorded in the manifest."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from ..common.atomic import remove_file, remove_stale_temporaries, replacing
from ..common.errors import CacheError, EntryError, UsageError
from ..common.exported import MANIFEST, Record
from ..common.hashing import DigestMemo, Digests
from ..common.paths import StrPath, exists, is_file, is_folder
from ..common.quoting import quoted
from ..entry import Entry
from ..format.packed import packed_file_of
from ..select import Chosen, OnSkip
from .formats import Exporter, Format
from .make_rows import ScoreColumns, make_rows
from .manifest import Manifest, origin
from .names import Piece, Source, name_sources, plan_pieces
from .recipe import Recipe
from .rows import Rows

PER_SHARD = 1000
_CSV_BYTES_PER_VALUE = 9
_LARGE_CSV_BYTES = 100_000_000


@dataclass(frozen=True)
class Target:
    """Where an export goes, and in which format.

    Attributes:
        output: a folder, or a file if the format is one file.
        format: of the files.
        per_shard: videos per shard, >= 1, in formats with shards.
    """

    output: StrPath
    format: Format
    per_shard: int = PER_SHARD

    @property
    def path(self) -> Path:
        """The output."""
        return Path(self.output)

    @property
    def folder(self) -> Path:
        """The folder that the names in the manifest are relative to."""
        return self.path.parent if self.format.is_one_file else self.path

    @property
    def manifest_path(self) -> Path:
        """The manifest: beside the output if that is a file, else in it."""
        name = f"{self.path.name}.{MANIFEST}" if self.format.is_one_file else MANIFEST
        return self.folder / name


@dataclass
class Summary:
    """How an export went.

    Attributes:
        written: videos written in this run.
        present: videos that an earlier run had written in the same way.
        failed: videos that could not be exported.
        rows: rows written in this run.
    """

    written: int = 0
    present: int = 0
    failed: int = 0
    rows: int = 0

    def as_text(self, target: Target) -> str:
        """The summary as one line of text."""
        return (
            f"{self.written} videos exported ({self.rows} rows), {self.present} already there, {self.failed} failed: "
            f"{target.output} ({target.format.name}, manifest {target.manifest_path})"
        )


@dataclass
class Export:
    """One export; `run` does it.

    Attributes:
        target: where the export goes, and in which format.
        recipe: what is done to the frames.
        on_skip: called with each entry that cannot be exported, and why; the others are exported nevertheless.
        score_columns: computes the cosines with the recipe's prompts; needed if there are any.
        on_done: called with how many more videos are done, for a progress bar.
        digests: computes or remembers the checksums of entries and of files that are written.
    """

    target: Target
    recipe: Recipe
    on_skip: OnSkip
    score_columns: ScoreColumns | None = None
    on_done: Callable[[int], object] = lambda _: None
    digests: Digests = field(default_factory=DigestMemo)
    summary: Summary = field(default_factory=Summary)
    _sha256: dict[Path, str] = field(default_factory=dict)

    def run(self, chosen: Sequence[Chosen]) -> Summary:
        """Write what is not written yet.

        Raises:
            UsageError: if the output is not a file or folder as the format needs, its library is not installed, it
                cannot hold scores, or a file is there that is not its manifest.
            CacheError: if the output cannot be written, or nothing is chosen.
        """
        if not chosen:
            raise CacheError(
                "There is no entry that can be read", "extract the videos again, or choose another --model"
            )
        target = self.target
        self.recipe = self.recipe.fit_for(target.format)
        _check(target, self.recipe, self.score_columns)
        writer = target.format.load()
        sources = name_sources(chosen, target.format.reserved)
        pieces = plan_pieces(sources, target.format, target.path.name, target.per_shard)
        manifest = self._opened_manifest()
        for piece in pieces:
            origins = [self._origin(source) for source in piece.sources]
            if manifest.holds(piece, origins):
                self.summary.present += len(piece.sources)
            elif foreign := manifest.foreign(piece):
                self._refuse(piece, foreign)
            else:
                self._write(piece, origins, writer, manifest)
            self.on_done(len(piece.sources))
        if target.format.is_sharded:  # a reader takes all shards that it finds, those of a larger export too
            for path in manifest.forget_others([piece.files[0] for piece in pieces], target.format.name):
                remove_file(path)
        manifest.save()
        return self.summary

    def _write(self, piece: Piece, origins: Sequence[Record], writer: Exporter, manifest: Manifest) -> None:
        """Write one piece without the sources that fail; after each failure the piece is written again without it."""
        made_from = dict(zip(piece.sources, origins, strict=True))
        while made_from:
            attempt = _Attempt(list(made_from), self.recipe, self.score_columns)
            try:
                with contextlib.ExitStack() as stack:
                    paths = [stack.enter_context(replacing(self.target.folder / name)) for name in piece.files]
                    writer(stack.enter_context(contextlib.closing(attempt.rows())), paths)
                    manifest.put(piece, _records(list(made_from.values()), attempt.counts, attempt.rates), paths)
            except (EntryError, UsageError) as error:
                if attempt.current is None:  # not the fault of a source
                    raise
                self.on_skip(attempt.current.entry_path, error)
                self.summary.failed += 1
                del made_from[attempt.current]
                continue
            self.summary.written += len(made_from)
            self.summary.rows += sum(attempt.counts)
            return

    def _refuse(self, piece: Piece, foreign: Path) -> None:
        """Leave out a piece in whose place lies something that is not ours."""
        self.summary.failed += len(piece.sources)
        problem = f"{quoted(foreign)} is there already and was not made by an export to this place"
        self.on_skip(foreign, UsageError(problem, "move it away, or choose another --output"))

    def _origin(self, source: Source) -> Record:
        return origin(source, self.recipe, self.target.format.name, self._entry_sha256(source.entry_path))

    def _entry_sha256(self, path: Path) -> str:
        """Of the entry's file, or of the packed library that it lies in; "" if that cannot be read."""
        file = packed_file_of(path) or path
        if file not in self._sha256:
            try:
                self._sha256[file] = self.digests.sha256(file)
            except UsageError:  # said when its features are read
                return ""
        return self._sha256[file]

    def _opened_manifest(self) -> Manifest:
        """Read the manifest, and write it again, so that nothing is appended to a line left incomplete by a killed run.

        Raises:
            UsageError: if a file of its name is there that is not a manifest.
            CacheError: if the folder cannot be written to.
        """
        remove_stale_temporaries(self.target.folder, below=not self.target.format.is_one_file)
        manifest = Manifest(self.target.manifest_path, self.target.folder, self.digests)
        manifest.save()
        return manifest


class _Attempt:
    """One attempt to write a piece: opens its sources one after the other, and keeps which one is being written."""

    def __init__(self, sources: Sequence[Source], recipe: Recipe, score_columns: ScoreColumns | None) -> None:
        self._sources = sources
        self._recipe = recipe
        self._score_columns = score_columns
        self.current: Source | None = None
        self.counts: list[int] = []  # rows of each source
        self.rates: list[float] = []  # rows a second of each

    def rows(self) -> Generator[Rows, None, None]:
        """Yield each source's rows; its entry is open until the next is asked for."""
        for source in self._sources:
            self.current = source
            entry = Entry(source.entry_path)
            with entry.kept_open():
                rows = make_rows(entry, source.name, self._recipe, self._score_columns)
                self.counts.append(len(rows))
                self.rates.append(rows.fps)
                yield rows
        self.current = None


def size_warnings(chosen: Sequence[Chosen], target: Target) -> list[str]:
    """Warnings about the size of an export, before it begins."""
    size = sum(one.attributes.frames_decoded * one.attributes.embed_dim for one in chosen) * _CSV_BYTES_PER_VALUE
    if target.format.name != "csv" or size < _LARGE_CSV_BYTES:
        return []
    return [f"With every frame the CSV file has about {size / 1e6:.0f} MB; parquet is smaller and read faster."]


def _records(origins: Sequence[Record], counts: Sequence[int], rates: Sequence[float]) -> list[Record]:
    """The manifest's records of sources, each with its rows in the piece."""
    firsts = [0, *itertools.accumulate(counts)]
    own = {"clipcache_version": version("clipcache")}
    return [
        one | {"rows_per_second": rate, "rows": count, "first_row": first} | own
        for one, count, first, rate in zip(origins, counts, firsts[:-1], rates, strict=True)
    ]


def _check(target: Target, recipe: Recipe, score_columns: ScoreColumns | None) -> None:
    """Refuse what cannot work before anything is written."""
    if target.per_shard < 1:
        raise UsageError(f"A shard takes 1 video or more, not {target.per_shard}")
    if str(target.output) == "-":
        raise UsageError(
            "An export goes into files with a manifest, not to the standard output", "name a file or folder"
        )
    if exists(target.path) and not is_file(target.path) and not is_folder(target.path):
        raise UsageError(f"{quoted(target.output)} is a device or a pipe", "name a file or a folder")
    if target.format.is_one_file and is_folder(target.path):
        raise UsageError(
            f"{quoted(target.output)} is a folder, where {target.format.name} writes one file", "name a file"
        )
    if not target.format.is_one_file and is_file(target.path):
        raise UsageError(
            f"{quoted(target.output)} is a file, where {target.format.name} needs a folder", "name a folder"
        )
    if recipe.texts and score_columns is None:
        raise UsageError("No model is available to score prompts", "leave out --text")
