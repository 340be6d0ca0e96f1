"""What the commands of scoring share: their options, and what `cli` hands them of the rest of the program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from ..cache.common.errors import ClipcacheError
from ..cache.common.options import CACHE, COUNT, DEBUG, LOADING, PATH, POSITIVE, SECOND, warn
from ..cache.common.paths import StrPath

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..cache.select import ExtractMissing
    from .question import ScoringContext
    from .references import ReferenceEncoder

FramesAt = Callable[[Path, Sequence[float]], "Iterable[tuple[int, NDArray[np.uint8]]]"]
Option = Callable[[Callable[..., Any]], Callable[..., Any]]  # a decorator that adds an option or a group of them

TARGETS = click.argument("targets", nargs=-1, type=PATH)
_FRAMES = cloup.option_group(
    "Which frames",
    click.option("--fps", type=POSITIVE, help="This many per second of video."),
    click.option("--every", type=COUNT, help="Every N-th."),
    click.option("--start", type=SECOND, help="From this second on."),
    click.option("--end", type=SECOND, help="Up to this second, exclusive."),
)
_MODEL = cloup.option_group(
    "Cache and model",
    CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Model, such as ViT-B/32; the cache's only one."),
    LOADING,
    click.option("-v", "--verbose", is_flag=True, help="Say on stderr when the model is loaded."),
    DEBUG,
)
_OUTPUT_FILE = click.option("--output", type=PATH, help="Write to this file instead of stdout.")


@dataclass(frozen=True)
class Wiring:
    """What commands need of other packages than their own, handed over by `cli`, so that none imports another.

    Attributes:
        load_encoder: loads the encoder of references: `load_encoder(model, weights_sha256, weights=..., device=...,
            trust=...)`.
        published_weights: the sha256 of the weights that a model's name means by itself, or with what --weights names.
        published_model: what is known of a model by its name, of OpenAI's and the bundled one; None of any other.
        read_frames: demuxes a video, for `clipcache import`.
        run: runs one of the program's own commands, given its arguments; its exit code.
        frames_at: decodes the frames of a video (or an image) at given times, milliseconds: the position of each time
            and its frame, (H, W, 3) uint8 RGB.
        score_columns: cosines of an entry's frames with prompts, as `export_columns.score_columns` gives them.
    """

    load_encoder: Callable[..., ReferenceEncoder]
    published_weights: Callable[[str, StrPath | None], str]
    published_model: Callable[[str], object]
    read_frames: Callable[[Path], object]
    run: Callable[[Sequence[str]], int]
    frames_at: FramesAt
    score_columns: Callable[..., dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Scoring:
    """One run of a command: the options "Cache and model", and the problems that do not end the run.

    Attributes:
        wiring: the rest of the program.
        cache_dir: folder of the cache.
        model: its name; None for the only one in the cache.
        weights: file of the model's weights; None for those that its name means.
        trust_weights: open a TorchScript archive that OpenAI did not publish.
        device: "auto", "cpu", "cuda" or "cuda:N".
        verbose: say when the model is loaded.
        problems: any of them makes the exit code 1.
    """

    wiring: Wiring
    cache_dir: Path
    model: str | None
    weights: Path | None
    trust_weights: bool
    device: str
    verbose: bool
    problems: list[ClipcacheError] = field(default_factory=list)

    def context(self, extract_missing: ExtractMissing | None = None) -> ScoringContext:
        """What the library needs to answer questions; it warns on stderr and loads the model that was asked for."""
        from .question import ScoringContext

        return ScoringContext(
            self.cache_dir, self.model, self._load, self.wiring.published_weights, warn, self._skip, extract_missing
        )

    def tell(self, error: ClipcacheError) -> None:
        """Say on stderr what could not be done, and go on."""
        warn(str(error))
        self.problems.append(error)

    def _skip(self, _: Path, error: ClipcacheError) -> None:
        warn(f"Skipped: {error}")
        self.problems.append(error)

    def _load(self, model: str, weights_sha256: str) -> ReferenceEncoder:
        """Load the model that encodes references, when it turns out to be needed."""
        if self.verbose:
            warn(f"Loading {model} on device {self.device} to encode references that are not in the cache yet.")
        return self.wiring.load_encoder(
            model, weights_sha256, weights=self.weights, device=self.device, trust=self.trust_weights
        )


class _Format(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """Names of formats; asked for a concat list, it says what to ask for instead."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "concat" and "ffmpeg" in self.choices:
            self.fail(
                "a concat list starts each part at the keyframe before it; use ffmpeg, which cuts exactly", param, ctx
            )
        return super().convert(value, param, ctx)


def output_options(*own: Option, formats: Sequence[str] = ("table", "csv", "json", "jsonl")) -> Option:
    """The group "Output" of a command that prints rows: `style`, `output`, and options of its own.

    Args:
        own: further options of the group.
        formats: what `--format` offers, the default first.
    """
    style = click.option(
        "--format",
        "style",
        type=_Format(formats),
        default=formats[0],
        show_default=True,
        help="Format of the output.",
    )
    return cloup.option_group("Output", style, _OUTPUT_FILE, *own)


def scoring_command(
    *own: Option, output: Option | None = None, short_help: str | None = None, frames: bool = True
) -> Callable[[Callable[..., None]], cloup.Command]:
    """Make a command of a function that scores; the exit code is 1 where the run had problems.

    The function gets a `Scoring` first, then the values of its own options and, with `frames`, `selection`: a
    `FrameSelection`.

    Args:
        own: arguments and groups of options of the command itself, in the order of its help.
        output: its group "Output"; None where it has none.
        short_help: what the list of commands says; None for the first sentence of the docstring.
        frames: add the group "Which frames".
    """

    def decorate(function: Callable[..., None]) -> cloup.Command:
        @click.pass_obj
        @functools.wraps(function)
        def command(
            wiring: Wiring,
            /,
            cache_dir: Path,
            model: str | None,
            weights: Path | None,
            trust_weights: bool,
            device: str,
            verbose: bool,
            **given: Any,
        ) -> None:
            scoring = Scoring(wiring, cache_dir, model, weights, trust_weights, device, verbose)
            if frames:
                from .compare import FrameSelection

                given["selection"] = FrameSelection(*(given.pop(name) for name in ("fps", "every", "start", "end")))
            function(scoring, **given)
            if scoring.problems:
                click.get_current_context().exit(1)

        for add in reversed((*own, _FRAMES if frames else None, output, _MODEL)):
            if add is not None:
                add(command)
        return cloup.command(short_help=short_help)(command)

    return decorate
