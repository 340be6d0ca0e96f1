"""An export: the chosen entries, named, shared out among files, written piece by piece, and noted in the manifest."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from ..common.atomic import remove_file, remove_stale_temporaries, replacing
from ..common.errors import CacheError, EntryError, UsageError
from ..common.quoting import quoted
from ..entry import Entry
from ..select import Chosen, OnSkip
from .formats import Exporter, Format
from .make_rows import ScoreColumns, make_rows
from .manifest import Manifest, Record, origin
from .names import Piece, Source, name_sources, plan_pieces
from .recipe import Recipe
from .rows import Rows

PER_SHARD = 1000
_CSV_BYTES_PER_VALUE = 9
_LARGE_CSV_BYTES = 100_000_000


@dataclass(frozen=True)
class Target:
    """Where an export goes, and in what form.

    Attributes:
        output: a folder, or the one file of a format that has but one.
        format: of the files.
        per_shard: videos a shard, >= 1, in formats that have shards.
    """

    output: Path
    format: Format
    per_shard: int = PER_SHARD

    @property
    def folder(self) -> Path:
        """What the names in the manifest are relative to."""
        return self.output.parent if self.format.is_one_file else self.output

    @property
    def manifest_path(self) -> Path:
        """Beside the one file, or in the folder."""
        name = f"{self.output.name}.manifest.jsonl" if self.format.is_one_file else "manifest.jsonl"
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
        """One line for people."""
        return (
            f"{self.written} videos exported ({self.rows} rows), {self.present} already there, {self.failed} failed: "
            f"{target.output} ({target.format.name}, manifest {target.manifest_path})"
        )


@dataclass
class Export:
    """One export; `run` does it.

    Attributes:
        target: where to, and in what form.
        recipe: what is done to the frames.
        on_skip: told of each entry that cannot be exported, and why; the others are, all the same.
        score_columns: gives the cosines with the recipe's prompts.
        on_done: told how many videos are done with, for a bar.
    """

    target: Target
    recipe: Recipe
    on_skip: OnSkip
    score_columns: ScoreColumns | None = None
    on_done: Callable[[int], object] = lambda _: None
    summary: Summary = field(default_factory=Summary)

    def run(self, chosen: Sequence[Chosen]) -> Summary:
        """Write what is not there yet.

        Raises:
            UsageError: the output cannot be what the format needs, its library is missing, or scores do not fit.
            CacheError: the output cannot be written, or nothing is chosen.
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
        pieces = plan_pieces(sources, target.format, target.output.name, target.per_shard)
        manifest = _opened_manifest(target)
        for piece in pieces:
            if manifest.holds(piece, [self._origin(source) for source in piece.sources]):
                self.summary.present += len(piece.sources)
            elif records := self._write(piece, writer):
                manifest.put(piece, records)
            self.on_done(len(piece.sources))
        if target.format.is_sharded:  # a reader takes all shards that it finds, those of a larger export too
            for path in manifest.forget_others([piece.files[0] for piece in pieces]):
                remove_file(path)
        manifest.save()
        return self.summary

    def _write(self, piece: Piece, writer: Exporter) -> list[Record]:
        """Write one piece without the sources that fail; one that does so midway means to begin again without it."""
        sources = list(piece.sources)
        while sources:
            attempt = _Attempt(sources, self.recipe, self.score_columns)
            try:
                with contextlib.ExitStack() as stack:
                    paths = [stack.enter_context(replacing(self.target.folder / name)) for name in piece.files]
                    writer(stack.enter_context(contextlib.closing(attempt.rows())), paths)
            except (EntryError, UsageError) as error:
                if attempt.current is None:  # not the fault of a source
                    raise
                self.on_skip(attempt.current.entry_path, error)
                self.summary.failed += 1
                sources.remove(attempt.current)
                continue
            self.summary.written += len(sources)
            self.summary.rows += sum(attempt.counts)
            return self._records(sources, attempt.counts)
        return []

    def _origin(self, source: Source) -> Record:
        return origin(source, self.recipe, self.target.format.name)

    def _records(self, sources: Sequence[Source], counts: Sequence[int]) -> list[Record]:
        """What the manifest says of each source, with the rows of the piece that are its own."""
        ends = itertools.accumulate(counts)
        return [
            self._origin(source) | {"rows": count, "first_row": end - count, "clipcache_version": version("clipcache")}
            for source, count, end in zip(sources, counts, ends, strict=True)
        ]


class _Attempt:
    """One attempt at a piece: opens its sources one after the other, and knows which one is at work."""

    def __init__(self, sources: Sequence[Source], recipe: Recipe, score_columns: ScoreColumns | None) -> None:
        self._sources = sources
        self._recipe = recipe
        self._score_columns = score_columns
        self.current: Source | None = None
        self.counts: list[int] = []  # rows of each source

    def rows(self) -> Generator[Rows, None, None]:
        """Give each source's rows, its entry open until the next is asked for."""
        for source in self._sources:
            self.current = source
            entry = Entry(source.entry_path)
            with entry.kept_open():
                rows = make_rows(entry, source.name, self._recipe, self._score_columns)
                self.counts.append(len(rows))
                yield rows
        self.current = None


def caution(chosen: Sequence[Chosen], target: Target) -> list[str]:
    """Sentences that a user should read before a large export begins."""
    size = sum(one.attributes.frames_decoded * one.attributes.embed_dim for one in chosen) * _CSV_BYTES_PER_VALUE
    if target.format.name != "csv" or size < _LARGE_CSV_BYTES:
        return []
    return [f"With every frame the CSV file has about {size / 1e6:.0f} MB; parquet is smaller and read faster."]


def _check(target: Target, recipe: Recipe, score_columns: ScoreColumns | None) -> None:
    """Refuse what cannot work, before anything is written."""
    if target.per_shard < 1:
        raise UsageError(f"A shard takes 1 video or more, not {target.per_shard}")
    if target.format.is_one_file and target.output.is_dir():
        raise UsageError(
            f"{quoted(target.output)} is a folder, where {target.format.name} writes one file", "name that"
        )
    if not target.format.is_one_file and target.output.is_file():
        raise UsageError(
            f"{quoted(target.output)} is a file, where {target.format.name} needs a folder", "name another"
        )
    if recipe.texts and score_columns is None:
        raise UsageError("Nothing here can score prompts", "leave out --text")


def _opened_manifest(target: Target) -> Manifest:
    """Read the manifest, and write it anew: a line that a killed run left half must not be continued.

    Raises:
        CacheError: the folder cannot be written to.
    """
    remove_stale_temporaries(target.folder)
    manifest = Manifest(target.manifest_path, target.folder)
    manifest.save()
    return manifest
