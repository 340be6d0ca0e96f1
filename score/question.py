"""Answer a question from the cache: which videos, compared with which references, over which frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from ..cache import DigestMemo, Entry
from ..cache.common.errors import CacheError, NotCachedError, UsageError
from ..cache.common.progress import counted
from ..cache.common.quoting import one_line, quoted
from ..cache.select import Chosen, ExtractMissing, OnSkip, Selector, check_one_model, differences
from .calibration import calibrate, read_baseline, resolve_baseline
from .compare import Comparison, FrameSelection, evaluate
from .conversion import convert
from .metrics import METRICS, SCALED, check_metric, check_sound_metric, sound_note
from .origins import check_embeddings
from .prompt_sets import PromptGroup, read_prompt_file, resolve_groups
from .read_files import StrPath
from .references import LoadEncoder, Reference, ReferenceResolver, read_embeddings
from .similarity import similarities

DEFAULT_MODEL = "ViT-B/32"


@dataclass(frozen=True)
class Question:
    """The videos to compare, and the references."""

    targets: Sequence[StrPath] = ()  # videos, images, folders, entries; none = everything in the cache
    texts: Sequence[str] = ()
    text_files: Sequence[StrPath] = ()  # one prompt a line, or YAML sets
    images: Sequence[StrPath] = ()
    videos: Sequence[StrPath] = ()  # cached videos, or entries
    embeddings: Sequence[StrPath] = ()  # .npy or .npz of (R, D)
    truncate: bool = False  # cut prompts that are too long instead of refusing them
    selection: FrameSelection = FrameSelection()  # noqa: RUF009 - frozen, so one default serves all
    metric: str = "cosine"  # one of `metrics.METRICS`
    calibrated: bool = False  # calibrate each score by those of generic prompts
    baseline: StrPath | None = None  # the generic prompts, one a line; None: the bundled ones


@dataclass(frozen=True)
class ScoringContext:
    """What is needed to answer a question: the cache, the model, and where warnings go."""

    cache_dir: StrPath
    model: str | None  # None: the only one in the cache
    load_encoder: LoadEncoder  # called at most once, and only for references that are not in the cache
    published_weights: Callable[[str, StrPath | None], str]  # sha256 of what a name means, or with a file given
    warn: Callable[[str], None]  # called with each warning, a sentence
    on_skip: OnSkip  # called with each entry that cannot be scored, and the reason
    extract_missing: ExtractMissing | None = None


@dataclass(frozen=True)
class Answer:
    """The comparisons of a question, computed one after the other as they are read."""

    videos: int
    references: int
    comparisons: Iterable[Comparison]  # videos x references, all references of a video in a row
    metric: str = "cosine"  # of all comparisons
    sound_note: str = ""  # lines on what made the features of sound, if there are any
    calibrated: bool = False  # whether they hold a calibration by generic prompts

    def kept(self) -> Answer:
        """The same with all comparisons computed and held in memory, to be read more than once."""
        return replace(self, comparisons=list(self.comparisons))


def ask(question: Question, context: ScoringContext) -> Answer:
    """Find the videos and the references; the features are read as the answer's comparisons are taken.

    Raises:
        UsageError: no reference is given, a path does not exist, or the videos are of several models.
        CacheError: there is no such cache, or a video is not in it.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
        MediaError: a reference image cannot be decoded.
    """
    if not any((question.texts, question.text_files, question.images, question.videos, question.embeddings)):
        raise UsageError(
            "There is nothing to compare with: give --text, --text-file, --image, --video or --text-embeddings"
        )
    groups = [*map(PromptGroup.plain, question.texts), *chain.from_iterable(map(read_prompt_file, question.text_files))]
    memo = DigestMemo()
    baseline = read_baseline(question.baseline) if question.calibrated else []
    selector = selector_of(context, memo)
    chosen = readable(selector.select([Path(one) for one in question.targets]))
    partners = [only(selector.select([Path(one)]), Path(one)) for one in question.videos]
    check_alike([*chosen, *partners], context)
    check_sound_metric(question.metric, (one.attributes for one in chosen))
    resolver = resolver_for(chosen, context, memo)
    check_embeddings(question.embeddings, chosen[0].attributes, context.warn)
    prefix = METRICS[question.metric].prompt_prefix
    references: list[Reference] = [
        *resolve_groups(groups, resolver, truncate=question.truncate, prefix=prefix),
        *resolver.images(question.images),
        *(row for path in question.embeddings for row in read_embeddings(path, chosen[0].attributes.embed_dim)),
    ]
    check_question(question, [*(one.kind for one in references), *("video" for _ in partners)])
    null = resolve_baseline(baseline, resolver, prefix=prefix) if baseline else []
    entries = (Entry(one.path) for one in counted(chosen, "Scoring", len(chosen)))
    videos = [Entry(one.path) for one in partners]
    comparisons = evaluate(entries, [*null, *references], videos, question.selection, context.on_skip)
    warn_of_scales(question.metric, chosen, context.warn)
    return answer_of(question, comparisons, chosen, len(chosen), len(references) + len(videos))


def check_question(question: Question, kinds: Sequence[str], *, pairs: bool = False) -> None:
    """Refuse a metric or a calibration that is not defined for the references given.

    Raises:
        UsageError: saying why.
    """
    check_metric(question.metric, kinds, pairs=pairs)
    if question.calibrated and question.metric == "probability":
        raise UsageError("Generic prompts calibrate cosines, not probabilities", "leave out --baseline or the --metric")
    if question.calibrated and "text" not in kinds:
        raise UsageError("Generic prompts calibrate scores of prompts", "give one, or leave out --baseline")


def warn_of_scales(metric: str, chosen: Iterable[Chosen], warn: Callable[[str], None]) -> None:
    """Warn where entries of one model have several logit scales, by which logits and probabilities are multiplied."""
    if metric not in SCALED:
        return
    names: dict[float, list[str]] = {}
    for one in chosen:
        scale = float(f"{one.attributes.logit_scale:.4g}")  # OpenAI's is 100.00001, others say 100
        names.setdefault(scale, []).append(one.attributes.video_name)
    if len(names) > 1:
        shares = "; ".join(f"{scale:g} for {_listed(videos)}" for scale, videos in sorted(names.items()))
        warn(f"The entries have different logit scales, so that their {metric} cannot be compared: {shares}.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(map(one_line, names[:2])) + more


def answer_of(
    question: Question, cosines: Iterable[Comparison], chosen: Iterable[Chosen], videos: int, references: int
) -> Answer:
    """Convert comparisons in cosines, the null first for each video, to the question's metric and calibration."""
    note = sound_note(one.attributes for one in chosen)
    calibrated = calibrate(cosines) if question.calibrated else cosines
    comparisons = convert(calibrated, question.metric)
    return Answer(videos, references, comparisons, question.metric, note, question.calibrated)


def choose(targets: Sequence[StrPath], context: ScoringContext, memo: DigestMemo) -> list[Chosen]:
    """Find the entries of the targets, at least one, all of one model; a warning names other differences.

    Args:
        targets: videos, images, folders, entries; none means everything in the cache.
        context: of the question.
        memo: remembers content hashes.

    Raises:
        UsageError: a target does not exist, or the entries are of several models.
        CacheError: there is no such cache, a video is not in it, or no entry can be read.
    """
    chosen = readable(selector_of(context, memo).select([Path(one) for one in targets]))
    check_alike(chosen, context)
    return chosen


def resolver_for(chosen: Sequence[Chosen], context: ScoringContext, memo: DigestMemo) -> ReferenceResolver:
    """A resolver of references for the model of the chosen entries (at least one)."""
    made_with = chosen[0].attributes
    return _resolver(context, memo, made_with.model, made_with.weights_sha256, made_with.embed_dim)


def compare_images(a: StrPath, b: StrPath, context: ScoringContext, weights: StrPath | None = None) -> float:
    """Return the cosine, in [-1, 1], of two images; their vectors are kept in the cache where there is one.

    Args:
        a: an image file.
        b: another.
        context: of the question; without a model, that of the cache is used, or ViT-B/32 where there is none.
        weights: file of weights that overrides what the cache was made with.

    Raises:
        UsageError: an image does not exist, or the cache holds several models and none was named.
        MediaError: an image cannot be decoded.
        ModelError: the model cannot be loaded.
    """
    memo = DigestMemo()
    model, weights_sha256, embed_dim = _identify_model(context, weights, memo)
    first, second = _resolver(context, memo, model, weights_sha256, embed_dim).images([a, b])
    return float(similarities(first.vector[None], second.vector[None])[0, 0])


def _identify_model(context: ScoringContext, weights: StrPath | None, memo: DigestMemo) -> tuple[str, str, int | None]:
    """Return a model's name, the sha256 of its weights (those given, the cache's, or the published ones), and its D.

    D is None where only loading the weights would tell it.
    """
    name = context.model or DEFAULT_MODEL
    if weights is not None:
        return name, context.published_weights(name, weights), None
    if os.path.exists(context.cache_dir):  # noqa: PTH110 - Path.exists raises for a name that is too long
        with contextlib.suppress(NotCachedError):
            made_with = Selector(Path(context.cache_dir), context.model, memo, context.on_skip).any_one()
            return made_with.model, made_with.weights_sha256, made_with.embed_dim
    return name, context.published_weights(name, None), None


def _resolver(
    context: ScoringContext, memo: DigestMemo, model: str, weights_sha256: str, embed_dim: int | None
) -> ReferenceResolver:
    return ReferenceResolver.of_cache(context.cache_dir, model, weights_sha256, context.load_encoder, memo, embed_dim)


def selector_of(context: ScoringContext, memo: DigestMemo) -> Selector:
    """A selector of entries in the cache."""
    return Selector(Path(context.cache_dir), context.model, memo, context.on_skip, context.extract_missing)


def readable(chosen: list[Chosen]) -> list[Chosen]:
    """The entries chosen; a `CacheError` if none of them can be read."""
    if not chosen:
        raise CacheError("There is no entry that can be read", "extract the videos again, or choose another --model")
    return chosen


def check_alike(chosen: Sequence[Chosen], context: ScoringContext) -> None:
    """Refuse entries of several models, and warn of other differences."""
    check_one_model(chosen)
    for sentence in differences(chosen):
        context.warn(sentence)


def only(chosen: Sequence[Chosen], path: Path) -> Chosen:
    """Return the only one of the entries that were found for a path."""
    if len(chosen) != 1:
        raise UsageError(f"{quoted(path)} stands for {len(chosen)} videos where one is expected", "name a single one")
    return chosen[0]
