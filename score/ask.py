"""One question to the cache, from names to comparisons: which videos, compared with what, over which frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..cache import DigestMemo, Entry, ReferenceStore
from ..cache.errors import CacheError, NotCachedError, UsageError
from ..cache.key import model_dir_name
from ..cache.select import Chosen, ExtractMissing, OnSkip, Selector, check_one_model, differences
from .evaluate import Comparison, Cut, evaluate
from .references import Reference, ReferenceEncoder, ReferenceResolver, read_embeddings, read_prompts
from .similarity import similarities

DEFAULT_MODEL = "ViT-B/32"
LoadEncoder = Callable[[str, str], ReferenceEncoder]  # model name, sha256 of its weights


@dataclass(frozen=True)
class Question:
    """What is to be compared with what."""

    targets: Sequence[Path] = ()  # videos, images, folders, entries; none = everything in the cache
    texts: Sequence[str] = ()
    text_files: Sequence[Path] = ()  # one prompt a line
    images: Sequence[Path] = ()
    videos: Sequence[Path] = ()  # cached videos, or entries
    embeddings: Sequence[Path] = ()  # .npy or .npz of (R, D)
    truncate: bool = False  # cut prompts that are too long instead of refusing them
    cut: Cut = Cut()  # noqa: RUF009 - frozen, so one default serves all


@dataclass(frozen=True)
class Surroundings:
    """Where the cache is, and what may be done and said while a question is answered."""

    cache_dir: Path
    model: str | None  # None: the only one in the cache
    load_encoder: LoadEncoder  # called at most once, and only for references that are not in the cache
    published_weights: Callable[[str], str]  # sha256 of the weights that a model's name means by itself
    warn: Callable[[str], None]  # told, in a sentence, what a reader of the scores must know
    on_skip: OnSkip  # told of each entry that cannot be scored, and why
    extract_missing: ExtractMissing | None = None


@dataclass(frozen=True)
class Answer:
    """Comparisons, made as they are asked for."""

    videos: int
    references: int
    comparisons: Iterable[Comparison]  # videos x references, all references of a video in a row

    def kept(self) -> Answer:
        """The same with all comparisons made and held, to be gone through more than once."""
        return replace(self, comparisons=list(self.comparisons))


def ask(question: Question, surroundings: Surroundings) -> Answer:
    """Find the videos and the references; the features are read as the answer's comparisons are taken.

    Raises:
        UsageError: no reference is given, or a name means nothing, or the videos are of several models.
        CacheError: there is no such cache, or a video is not in it.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
        MediaError: a reference image cannot be decoded.
    """
    if not any((question.texts, question.text_files, question.images, question.videos, question.embeddings)):
        raise UsageError("Say what to compare with: --text, --text-file, --image, --video or --text-embeddings.")
    prompts = [*question.texts, *(prompt for path in question.text_files for prompt in read_prompts(path))]
    memo = DigestMemo()
    selector = Selector(
        surroundings.cache_dir, surroundings.model, memo, surroundings.on_skip, surroundings.extract_missing
    )
    chosen = selector.select(question.targets)
    if not chosen:
        raise CacheError("There is no entry that can be read: extract the videos again, or choose another --model.")
    partners = [_only(selector.select([path]), path) for path in question.videos]
    check_one_model([*chosen, *partners])
    for sentence in differences([*chosen, *partners]):
        surroundings.warn(sentence)
    made_with = chosen[0].attributes
    resolver = _resolver(surroundings, memo, made_with.model, made_with.weights_sha256, made_with.embed_dim)
    references: list[Reference] = [
        *resolver.texts(prompts, question.truncate),
        *resolver.images(question.images),
        *(row for path in question.embeddings for row in read_embeddings(path, made_with.embed_dim)),
    ]
    entries, videos = (Entry(one.path) for one in chosen), [Entry(one.path) for one in partners]
    comparisons = evaluate(entries, references, videos, question.cut, surroundings.on_skip)
    return Answer(len(chosen), len(references) + len(videos), comparisons)


def compare_images(a: Path, b: Path, surroundings: Surroundings, weights: Path | None = None) -> float:
    """Return the cosine, in [-1, 1], of two images; their vectors are remembered in the cache where there is one.

    Args:
        a: an image file.
        b: another.
        surroundings: of the question; without a model named, the only one in the cache serves, else ViT-B/32.
        weights: file of weights that overrides what the cache was made with.

    Raises:
        UsageError: an image does not exist, or the cache holds several models and none was named.
        MediaError: an image cannot be decoded.
        ModelError: the model cannot be loaded.
    """
    memo = DigestMemo()
    model, weights_sha256, embed_dim = _identify_model(surroundings, weights, memo)
    first, second = _resolver(surroundings, memo, model, weights_sha256, embed_dim).images([a, b])
    return float(similarities(first.vector[None], second.vector[None])[0, 0])


def _identify_model(surroundings: Surroundings, weights: Path | None, memo: DigestMemo) -> tuple[str, str, int | None]:
    """Return a model's name, the sha256 of its weights (those given, the cache's, or the published ones), and its D.

    D is None where only the weights themselves would tell.
    """
    name = surroundings.model or DEFAULT_MODEL
    if weights is not None:
        return name, memo.sha256(weights), None
    if os.path.isdir(surroundings.cache_dir):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        with contextlib.suppress(NotCachedError):
            made_with = Selector(surroundings.cache_dir, surroundings.model, memo, surroundings.on_skip).any_one()
            return made_with.model, made_with.weights_sha256, made_with.embed_dim
    return name, surroundings.published_weights(name), None


def _resolver(
    surroundings: Surroundings, memo: DigestMemo, model: str, weights_sha256: str, embed_dim: int | None
) -> ReferenceResolver:
    """Resolve references of one model, remembering their vectors in the cache where there is one."""
    store = None
    if os.path.isdir(surroundings.cache_dir):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        store = ReferenceStore(surroundings.cache_dir, model_dir_name(model, weights_sha256))
    return ReferenceResolver(store, lambda: surroundings.load_encoder(model, weights_sha256), memo.sha256, embed_dim)


def _only(chosen: Sequence[Chosen], path: Path) -> Chosen:
    """Return the one entry that a reference video's name means."""
    if len(chosen) != 1:
        raise UsageError(f"{str(path)!r} means {len(chosen)} videos where --video takes one: name a single one.")
    return chosen[0]
