"""The command line: click commands, nothing else.

A command checks nothing and computes nothing: it hands typed options to the library and prints what comes back.
Heavy imports stay inside the commands, so that `clipcache --help` answers at once. `main` alone turns errors into
exit codes.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from .cache.errors import ClipcacheError
from .cache.naming import one_line

if TYPE_CHECKING:
    from .score.ask import LoadEncoder, Surroundings
    from .score.references import ReferenceEncoder
    from .score.select import ExtractMissing

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

_PATH = click.Path(path_type=Path)
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _AutoOrNumber(click.ParamType[int]):
    """`auto` (None) or a whole number from a least one on."""

    name = "auto|N"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:  # type: ignore[override]
        if value == "auto":
            return None
        number = click.INT.convert(value, param, ctx)
        return click.IntRange(min=self._least).convert(number, param, ctx)


_AUTO_OR_COUNT = _AutoOrNumber(1)
_AUTO_OR_ZERO = _AutoOrNumber(0)


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Join options that several commands share into one decorator."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_CACHE = click.option(
    "--cache",
    "cache_dir",
    type=_PATH,
    default="features",
    envvar="CLIPCACHE_CACHE",
    show_default=True,
    help="Directory of the cache.",
)
_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
_LOADING = _options(
    click.option("--weights", type=_PATH, envvar="CLIPCACHE_WEIGHTS", help="File of the model's weights."),
    click.option("--trust-weights", is_flag=True, help="Open a TorchScript archive that OpenAI did not publish."),
    click.option("--device", default="auto", envvar="CLIPCACHE_DEVICE", help="auto, cpu, cuda or cuda:N."),
)
_CACHE_OPTIONS = _options(
    _CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Only this model, such as ViT-B/32."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    _DEBUG,
)
_SCORE_OPTIONS = _options(
    _CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Model, such as ViT-B/32; the cache's only one."),
    _LOADING,
    click.option("-v", "--verbose", is_flag=True, help="Say on stderr when the model is loaded."),
    _DEBUG,
)


@click.group(context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="clipcache")
def cli() -> None:
    """Encode every frame of a video library with CLIP once; score, search and export it ever after."""


# --- extract ---


@cli.command(short_help="Encode every frame of videos and images into the cache.")
@click.argument("inputs", nargs=-1, type=click.Path())
@click.option("--list", "list_file", type=_PATH, help="More inputs: a path a line, or a CSV with a path column.")
@_CACHE
@click.option("--model", default="ViT-B/32", envvar="CLIPCACHE_MODEL", show_default=True, help="Name of the model.")
@_LOADING
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Of the encoder; auto: fp16 on CUDA, bf16 where the CPU computes in it, else fp32.",
)
@click.option("--batch-size", type=_AUTO_OR_COUNT, default="auto", show_default=True, help="Pictures per batch.")
@click.option(
    "--num-workers", type=_AUTO_OR_ZERO, default="auto", show_default=True, help="Decoding processes; 0: none."
)
@click.option(
    "--decoder",
    type=click.Choice(["auto", "decord", "pyav"]),
    default="auto",
    show_default=True,
    help="auto: decord where it equals PyAV bit for bit.",
)
@click.option("--fps", type=float, help="Encode this many frames a second of video, not every frame.")
@click.option("--every", type=int, help="Encode every N-th frame.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Of the cached features.",
)
@click.option("--overwrite", is_flag=True, help="Encode again what is cached.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@click.option("--limit-memory", metavar="SIZE", help="Fewer and leaner decoders, to stay under SIZE, such as 4GB.")
@click.option("--dry-run", is_flag=True, help="Say what would be done with each input, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="One line for each input on stderr.")
@click.option("--debug", is_flag=True, help="Tracebacks, and the decoders' own messages.")
def extract(
    inputs: tuple[str, ...],
    list_file: Path | None,
    cache_dir: Path,
    fps: float | None,
    every: int | None,
    limit_memory: str | None,
    dry_run: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Encode every frame of INPUT...: videos, images, folders of them, globs.

    What is in the cache already is not decoded again, wherever it lies and whatever it is called now.
    """
    from .cache.sampling import Sampling
    from .extract.prepare import ExtractOptions, prepare
    from .extract.resources import parse_bytes
    from .extract.run import carry_out

    memory_limit = parse_bytes(limit_memory) if limit_memory else None
    options = ExtractOptions(sampling=Sampling(fps, every), memory_limit=memory_limit, **choices)
    with _resumable():
        prepared = prepare(inputs, cache_dir, options, list_file=list_file)
        if dry_run:
            click.echo(prepared.as_json() if as_json else prepared.as_text())
            return
        summary = carry_out(prepared)
    click.echo(summary.as_json() if as_json else summary.as_text())
    click.get_current_context().exit(1 if summary.failed or summary.failed_before else 0)


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a run in good order, and say how to go on."""

    def terminate(number: int, frame: object) -> NoReturn:  # noqa: ARG001  the signature of a handler
        raise KeyboardInterrupt(number)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the good order short
        command = shlex.join(["clipcache", *sys.argv[1:]])
        click.echo(f"\nStopped. What is finished is kept; to go on, run the same command again: {command}", err=True)
        code = 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
        raise click.exceptions.Exit(int(code)) from None
    finally:
        signal.signal(signal.SIGTERM, previous)


# --- cache ---


@cli.group(name="cache")
def cache_group() -> None:
    """List, describe and check what is in the cache."""


@cache_group.command()
@_CACHE_OPTIONS
def ls(cache_dir: Path, model: str | None, as_json: bool) -> None:
    """List the entries; a bad one is named on stderr."""
    from .cache.report import describe, ls_text, to_json
    from .cache.store import FeatureCache

    cache = FeatureCache(cache_dir)
    entries = cache.iter_entries(lambda _, error: _warn(str(error)), model)
    described = [describe(entry) for entry in entries]
    click.echo(to_json(described) if as_json else ls_text(described, cache))


@cache_group.command()
@click.argument("target", metavar="ENTRY|VIDEO", type=_PATH)
@_CACHE_OPTIONS
def info(target: Path, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """Tell everything about one entry.

    It is named by its file in the cache, or by the video, wherever that lies and whatever its name is now.
    """
    from .cache.report import describe, info_text, to_json
    from .cache.store import open_target

    described = describe(open_target(target, cache_dir, model))
    click.echo(to_json(described) if as_json else info_text(described))


@cache_group.command()
@click.option("--delete-bad", is_flag=True, help="Remove the bad entries.")
@_CACHE_OPTIONS
def verify(delete_bad: bool, cache_dir: Path, model: str | None, as_json: bool) -> None:
    """Read all entries and list the bad ones.

    The exit code is 1 if there are any. --delete-bad removes them, but for those that this program may not judge: of
    a newer schema, or not readable here.
    """
    from .cache.report import findings_json, verify_text
    from .cache.store import FeatureCache
    from .cache.verify import remove_bad
    from .cache.verify import verify as verify_entries

    findings = list(verify_entries(FeatureCache(cache_dir), model))
    click.echo(findings_json(findings) if as_json else verify_text(findings))
    if delete_bad:
        for path in remove_bad(findings):
            _warn(f"removed {path}")
    if any(finding.problem for finding in findings):
        click.get_current_context().exit(1)


# --- score ---

_FORMATS = click.Choice(["table", "csv", "json", "jsonl"])


@cli.command(short_help="Compare cached videos with prompts, images or videos.")
@click.argument("targets", nargs=-1, type=_PATH)
@click.option("--text", "texts", multiple=True, help="Prompt to score with; may be repeated, as all references.")
@click.option("--text-file", "text_files", multiple=True, type=_PATH, help="Prompts, one a line; # for comments.")
@click.option("--image", "images", multiple=True, type=_PATH, help="Reference image.")
@click.option("--video", "videos", multiple=True, type=_PATH, help="Cached video: frame i against frame i.")
@click.option("--text-embeddings", "embeddings", multiple=True, type=_PATH, help="Vectors (R, D), .npy or .npz.")
@click.option("--truncate", is_flag=True, help="Cut prompts of over 77 tokens instead of refusing them.")
@click.option("--fps", type=float, help="Score this many frames per second of video.")
@click.option("--every", type=int, help="Score every N-th frame.")
@click.option("--start", type=float, help="Score from this second on.")
@click.option("--end", type=float, help="Score up to this second, exclusive.")
@click.option("--per-frame", is_flag=True, help="One row a frame, with its timestamp.")
@click.option("--format", "style", type=_FORMATS, default="table", show_default=True, help="Of the output.")
@click.option("--output", type=_PATH, help="Write to this file instead of stdout.")
@click.option("--plot", type=_PATH, help="Draw similarity over time: .png, .svg or .pdf.")
@click.option("--extract-missing", is_flag=True, help="First extract what is not in the cache.")
@_SCORE_OPTIONS
def score(
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
    from .score.ask import Question, ask
    from .score.evaluate import Cut
    from .score.plots import plot_similarity
    from .score.tables import answer_text, write_text

    def extract_targets(paths: Sequence[Path], its_model: str | None) -> None:
        _extract_targets(paths, trust_weights, cache=cache_dir, model=its_model, weights=weights, device=device)

    skipped: list[Path] = []
    load_encoder = _encoder_loader(weights, trust_weights, device, verbose)
    extractor = extract_targets if extract_missing else None
    surroundings = _surroundings(cache_dir, model, load_encoder, skipped.append, extractor)
    cut = Cut(fps=fps, every=every, start=start, end=end)
    question = Question(targets, texts, text_files, images, videos, embeddings, truncate, cut)
    answer = ask(question, surroundings)
    if plot:
        answer = answer.kept()
        if problem := plot_similarity(list(answer.comparisons), plot):
            _warn(problem)
    write_text(answer_text(answer, style, per_frame=per_frame), output)
    if skipped:
        click.get_current_context().exit(1)


@cli.command()
@click.argument("image_a", type=_PATH)
@click.argument("image_b", type=_PATH)
@_SCORE_OPTIONS
def compare(
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
    from .score.ask import compare_images

    surroundings = _surroundings(cache_dir, model, _encoder_loader(weights, trust_weights, device, verbose))
    cosine = compare_images(image_a, image_b, surroundings, weights)
    click.echo(f"CLIP score (image-to-image): {cosine:.4f} (cosine, -1 to 1)")


def _surroundings(
    cache_dir: Path,
    model: str | None,
    load_encoder: LoadEncoder,
    on_skip: Callable[[Path], None] = lambda _: None,
    extract_missing: ExtractMissing | None = None,
) -> Surroundings:
    """Wire the library to stderr and to the model; `on_skip` hears of each entry that cannot be used."""
    from .score.ask import Surroundings

    def published_weights(name: str) -> str:
        from .cache.digest import DigestMemo
        from .extract.models import find_weights

        return find_weights(name, None, DigestMemo()).sha256

    def skip(path: Path, error: ClipcacheError) -> None:
        _warn(f"Skipped: {error}")
        on_skip(path)

    return Surroundings(cache_dir, model, load_encoder, published_weights, _warn, skip, extract_missing)


def _encoder_loader(weights: Path | None, trust: bool, device: str, verbose: bool) -> LoadEncoder:
    """Load the model that encodes references, when it turns out to be needed."""

    def load(name: str, weights_sha256: str) -> ReferenceEncoder:
        from .extract.encoder import load_reference_encoder

        if verbose:
            _warn(f"Loading {name} on device {device} to encode references that are not in the cache yet.")
        return load_reference_encoder(name, weights_sha256, weights=weights, device=device, trust=trust)

    return load


def _extract_targets(paths: Sequence[Path], trust: bool, **options: str | Path | None) -> None:
    """Run `clipcache extract` as a user would; its summary goes to stderr, for stdout belongs to the scores."""
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]
    if trust:
        given.append("--trust-weights")
    with contextlib.redirect_stdout(sys.stderr):
        code = cli.main(["extract", *given, "--", *map(str, paths)], standalone_mode=False)
    if code not in (None, 0, 1):  # 1: some failed, which the scores will miss if they need them; else interrupted
        click.get_current_context().exit(code)


def _warn(sentence: str) -> None:
    """One line on stderr; names that come from files may hold line breaks and terminal escapes."""
    click.echo(f"clipcache: {one_line(sentence)}", err=True)


def main() -> NoReturn:
    """Run the program; every known error becomes one sentence on stderr and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 130
    except ClipcacheError as error:
        if "--debug" in sys.argv:
            raise
        _warn(str(error))
        code = error.exit_code
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _warn(f"Unexpected {type(error).__name__}: {str(error)[:200]}; please report it with what --debug prints.")
        code = 1
    sys.exit(code)
