"""`clipcache score` and `clipcache compare`: a question in, a table or a plot out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cache.errors import ClipcacheError
from ..cache.terminal import CACHE, DEBUG, LOADING, PATH, options, warn

if TYPE_CHECKING:
    from ..cache.select import ExtractMissing
    from .ask import LoadEncoder, Surroundings
    from .references import ReferenceEncoder

_FORMATS = click.Choice(["table", "csv", "json", "jsonl"])
_OPTIONS = options(
    CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Model, such as ViT-B/32; the cache's only one."),
    LOADING,
    click.option("-v", "--verbose", is_flag=True, help="Say on stderr when the model is loaded."),
    DEBUG,
)


@dataclass(frozen=True)
class Wiring:
    """What scoring needs of the rest of the program, handed over by `cli`, so that `score` imports none of it.

    Attributes:
        load_encoder: Loads the encoder of references: `load_encoder(model, weights_sha256, weights=..., device=...,
            trust=...)`.
        published_weights: The sha256 of the weights that a model's name means by itself.
        run: Runs one of the program's own commands, given its arguments; its exit code.
    """

    load_encoder: Callable[..., ReferenceEncoder]
    published_weights: Callable[[str], str]
    run: Callable[[Sequence[str]], int]


@click.command(short_help="Compare cached videos with prompts, images or videos.")
@click.argument("targets", nargs=-1, type=PATH)
@click.option("--text", "texts", multiple=True, help="Prompt to score with; may be repeated, as all references.")
@click.option("--text-file", "text_files", multiple=True, type=PATH, help="Prompts, one a line; # for comments.")
@click.option("--image", "images", multiple=True, type=PATH, help="Reference image.")
@click.option("--video", "videos", multiple=True, type=PATH, help="Cached video: frame i against frame i.")
@click.option("--text-embeddings", "embeddings", multiple=True, type=PATH, help="Vectors (R, D), .npy or .npz.")
@click.option("--truncate", is_flag=True, help="Cut prompts of over 77 tokens instead of refusing them.")
@click.option("--fps", type=float, help="Score this many frames per second of video.")
@click.option("--every", type=int, help="Score every N-th frame.")
@click.option("--start", type=float, help="Score from this second on.")
@click.option("--end", type=float, help="Score up to this second, exclusive.")
@click.option("--per-frame", is_flag=True, help="One row a frame, with its timestamp.")
@click.option("--format", "style", type=_FORMATS, default="table", show_default=True, help="Of the output.")
@click.option("--output", type=PATH, help="Write to this file instead of stdout.")
@click.option("--plot", type=PATH, help="Draw similarity over time: .png, .svg or .pdf.")
@click.option("--extract-missing", is_flag=True, help="First extract what is not in the cache.")
@_OPTIONS
@click.pass_obj
def score(
    wiring: Wiring,
    targets: tuple[Path, ...],
    texts: tuple[str, ...],
    text_files: tuple[Path, ...],
    images: tuple[Path, ...],
    videos: tuple[Path, ...],
    embeddings: tuple[Path, ...],
    truncate: bool,
    fps: float | None,
    every: int | None,
    start: float | None,
    end: float | None,
    per_frame: bool,
    style: str,
    output: Path | None,
    plot: Path | None,
    extract_missing: bool,
    cache_dir: Path,
    model: str | None,
    weights: Path | None,
    trust_weights: bool,
    device: str,
    verbose: bool,
) -> None:
    """Compare cached videos with prompts, images, videos or given embeddings.

    TARGETS are videos, image folders, folders of them, or entries of the cache; none means the whole cache. Scores
    are cosines, from -1 to 1, per frame and summed up per video. Frames that only one of a target and a reference
    video has are ignored; --fps, --every, --start and --end apply to both.
    """
    from .ask import Question, ask
    from .evaluate import Cut
    from .plots import plot_similarity
    from .tables import answer_text, write_text

    def extract_targets(paths: Sequence[Path], its_model: str | None) -> None:
        _extract_targets(wiring, paths, trust_weights, cache=cache_dir, model=its_model, weights=weights, device=device)

    skipped: list[Path] = []
    load_encoder = _encoder_loader(wiring, weights, trust_weights, device, verbose)
    extractor = extract_targets if extract_missing else None
    surroundings = _surroundings(wiring, cache_dir, model, load_encoder, skipped.append, extractor)
    cut = Cut(fps=fps, every=every, start=start, end=end)
    question = Question(targets, texts, text_files, images, videos, embeddings, truncate, cut)
    answer = ask(question, surroundings)
    if plot:
        answer = answer.kept()
        if problem := plot_similarity(list(answer.comparisons), plot):
            warn(problem)
    write_text(answer_text(answer, style, per_frame=per_frame), output)
    if skipped:
        click.get_current_context().exit(1)


@click.command()
@click.argument("image_a", type=PATH)
@click.argument("image_b", type=PATH)
@_OPTIONS
@click.pass_obj
def compare(
    wiring: Wiring,
    image_a: Path,
    image_b: Path,
    cache_dir: Path,
    model: str | None,
    weights: Path | None,
    trust_weights: bool,
    device: str,
    verbose: bool,
) -> None:
    """Compare two images: the cosine of their embeddings, from -1 to 1."""
    from .ask import compare_images

    load_encoder = _encoder_loader(wiring, weights, trust_weights, device, verbose)
    surroundings = _surroundings(wiring, cache_dir, model, load_encoder)
    cosine = compare_images(image_a, image_b, surroundings, weights)
    click.echo(f"CLIP score (image-to-image): {cosine:.4f} (cosine, -1 to 1)")


def _surroundings(
    wiring: Wiring,
    cache_dir: Path,
    model: str | None,
    load_encoder: LoadEncoder,
    on_skip: Callable[[Path], None] = lambda _: None,
    extract_missing: ExtractMissing | None = None,
) -> Surroundings:
    """Wire the library to stderr and to the model; `on_skip` hears of each entry that cannot be used."""
    from .ask import Surroundings

    def skip(path: Path, error: ClipcacheError) -> None:
        warn(f"Skipped: {error}")
        on_skip(path)

    return Surroundings(cache_dir, model, load_encoder, wiring.published_weights, warn, skip, extract_missing)


def _encoder_loader(wiring: Wiring, weights: Path | None, trust: bool, device: str, verbose: bool) -> LoadEncoder:
    """Load the model that encodes references, when it turns out to be needed."""

    def load(name: str, weights_sha256: str) -> ReferenceEncoder:
        if verbose:
            warn(f"Loading {name} on device {device} to encode references that are not in the cache yet.")
        return wiring.load_encoder(name, weights_sha256, weights=weights, device=device, trust=trust)

    return load


def _extract_targets(wiring: Wiring, paths: Sequence[Path], trust: bool, **given: str | Path | None) -> None:
    """Run `clipcache extract` as a user would; its summary goes to stderr, for stdout belongs to the scores."""
    words = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    if trust:
        words.append("--trust-weights")
    with contextlib.redirect_stdout(sys.stderr):
        code = wiring.run(["extract", *words, "--", *map(str, paths)])
    if code not in (0, 1):  # 1: some failed, which the scores will miss if they need them; else interrupted
        click.get_current_context().exit(code)
