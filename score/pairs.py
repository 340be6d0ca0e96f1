"""A CSV of pairs: each video with a reference of its own, for batches of generated videos and their prompts.

Columns: `video`, and one or more of `prompt` (or `text`), `image` and `reference_video`. A row gives one comparison for
each of these that it fills in. Paths are taken from the current folder, else from the CSV's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..cache import DigestMemo, Entry
from ..cache.common.errors import CacheError, ClipcacheError, UsageError
from ..cache.common.paths import exists
from ..cache.common.progress import counted
from ..cache.common.quoting import quoted
from ..cache.select import Chosen
from .calibration import read_baseline, resolve_baseline
from .compare import Comparison, evaluate
from .metrics import METRICS, check_sound_metric
from .prompt_sets import PromptGroup, resolve_groups
from .question import (
    Answer,
    Question,
    ScoringContext,
    answer_of,
    check_alike,
    check_question,
    only,
    readable,
    resolver_for,
    selector_of,
    warn_of_scales,
)
from .read_files import StrPath, read_rows
from .references import Reference, ReferenceResolver

_KINDS = {"prompt": "text", "text": "text", "image": "image", "reference_video": "video"}


@dataclass(frozen=True)
class Pair:
    """One comparison that a row asks for."""

    video: Path  # a video, image folder or entry
    kind: str  # "text", "image" or "video"
    reference: str  # the prompt, or a path


def read_pairs(path: StrPath) -> list[Pair]:
    """The pairs of a CSV file, in order.

    Raises:
        UsageError: the file cannot be read, lacks these columns, or a row has no reference.
    """
    path = Path(path)
    rows = read_rows(path, ["video"])
    columns = [name for name in _KINDS if name in rows[0]]
    if not columns:
        raise UsageError(
            f"{quoted(path)} has no column to compare with", "add one of prompt, image and reference_video beside video"
        )
    return [pair for row in rows for pair in _pairs_of(row, columns, path)]


def _pairs_of(row: dict[str, str], columns: Sequence[str], path: Path) -> Iterator[Pair]:
    video = _located(row["video"], path)
    filled = [(name, row[name].strip()) for name in columns if row[name].strip()]
    if not filled:
        raise UsageError(f"{quoted(path)}: the row of {row['video']!r} has no {' or '.join(columns)}", "fill one in")
    for name, value in filled:
        kind = _KINDS[name]
        yield Pair(video, kind, value if kind == "text" else str(_located(value, path)))


def _located(name: str, table: Path) -> Path:
    """A path of the table: from the current folder, or from the table's own where the file is not there."""
    given = Path(name.strip())
    beside = table.parent / given
    return beside if not exists(given) and exists(beside) else given


def ask_pairs(table: StrPath, question: Question, context: ScoringContext) -> Answer:
    """Compare each video of a CSV with its own references; as `ask` otherwise.

    Args:
        table: see `read_pairs`.
        question: its selection of frames, metric and baseline count; targets and references come from the table.
        context: of the question.

    Raises:
        UsageError: the table is malformed, a path does not exist, or the metric does not fit.
        CacheError: a video is not in the cache.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
        MediaError: a reference image cannot be decoded.
    """
    pairs = read_pairs(table)
    check_question(question, [pair.kind for pair in pairs], pairs=True)
    memo = DigestMemo()
    selector = selector_of(context, memo)
    paths = dict.fromkeys([pair.video for pair in pairs] + [Path(p.reference) for p in pairs if p.kind == "video"])
    found = selector.select_each(list(paths))
    readable([one for some in found.values() for one in some])
    entries = {path: only(some, path) for path, some in found.items() if some}  # the others are named already
    pairs = [pair for pair in pairs if _is_readable(pair, entries)]
    if not pairs:
        raise CacheError(f"No row of {quoted(table)} has videos that can be read", "extract them again")
    check_alike(list(dict.fromkeys(entries.values())), context)
    check_sound_metric(question.metric, (one.attributes for one in entries.values()))
    resolver = resolver_for(list(entries.values()), context, memo)
    vectors = _vectors(pairs, question, resolver)
    prefix = METRICS[question.metric].prompt_prefix
    null = resolve_baseline(read_baseline(question.baseline), resolver, prefix=prefix) if question.calibrated else []
    comparisons = _compare(pairs, entries, vectors, null, question, context)
    warn_of_scales(question.metric, dict.fromkeys(entries[pair.video] for pair in pairs), context.warn)
    return answer_of(question, comparisons, entries.values(), len({pair.video for pair in pairs}), len(pairs))


def _is_readable(pair: Pair, entries: Mapping[Path, Chosen]) -> bool:
    return pair.video in entries and (pair.kind != "video" or Path(pair.reference) in entries)


def _vectors(
    pairs: Sequence[Pair], question: Question, resolver: ReferenceResolver
) -> dict[tuple[str, str], Reference]:
    """The vector of each prompt and image, by kind and name; each is encoded once."""
    prefix = METRICS[question.metric].prompt_prefix
    texts = list(dict.fromkeys(pair.reference for pair in pairs if pair.kind == "text"))
    images = list(dict.fromkeys(pair.reference for pair in pairs if pair.kind == "image"))
    groups = [PromptGroup.plain(text) for text in texts]
    found = resolve_groups(groups, resolver, truncate=question.truncate, prefix=prefix)
    pictures = resolver.images(map(Path, images))
    return {
        **{("text", text): one for text, one in zip(texts, found, strict=True)},
        **{("image", image): one for image, one in zip(images, pictures, strict=True)},
    }


def _compare(
    pairs: Sequence[Pair],
    entries: dict[Path, Chosen],
    vectors: dict[tuple[str, str], Reference],
    null: list[Reference],
    question: Question,
    context: ScoringContext,
) -> Iterator[Comparison]:
    """In the order of the table; the rows of one video that follow each other are read together."""
    said: set[str] = set()

    def skip(path: Path, error: ClipcacheError) -> None:
        if str(error) not in said:  # a video may be read again, further down the table, and a reference for many
            said.add(str(error))
            context.on_skip(path, error)

    rows_done = counted(pairs, "Scoring", len(pairs), "pairs")
    for path, group in groupby(rows_done, key=lambda pair: entries[pair.video].path):  # copies share an entry
        first = null
        for rows in _runs(group):
            references = [vectors[pair.kind, pair.reference] for pair in rows if pair.kind != "video"]
            partners = [Entry(entries[Path(pair.reference)].path) for pair in rows if pair.kind == "video"]
            yield from evaluate([Entry(path)], [*first, *references], partners, question.selection, skip)
            first = []


def _runs(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Divide rows so that none of a prompt or image comes after one of a video: `evaluate` takes those first."""
    run: list[Pair] = []
    for pair in pairs:
        if run and run[-1].kind == "video" and pair.kind != "video":
            yield run
            run = []
        run.append(pair)
    yield run
