"""What the commands of scoring share: their options, and the wires to the rest of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cache.common.errors import ClipcacheError
from ..cache.common.options import CACHE, DEBUG, LOADING, PATH, options, warn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..cache.select import ExtractMissing
    from .question import Surroundings
    from .references import LoadEncoder, ReferenceEncoder

CUT = options(
    click.option("--fps", type=float, help="Score this many frames per second of video."),
    click.option("--every", type=int, help="Score every N-th frame."),
    click.option("--start", type=float, help="Score from this second on."),
    click.option("--end", type=float, help="Score up to this second, exclusive."),
)
OUTPUT = options(
    click.option(
        "--format",
        "style",
        type=click.Choice(["table", "csv", "json", "jsonl"]),
        default="table",
        show_default=True,
        help="Of the output.",
    ),
    click.option("--output", type=PATH, help="Write to this file instead of stdout."),
)
MODEL = options(
    CACHE,
    click.option("--model", envvar="CLIPCACHE_MODEL", help="Model, such as ViT-B/32; the cache's only one."),
    LOADING,
    click.option("-v", "--verbose", is_flag=True, help="Say on stderr when the model is loaded."),
    DEBUG,
)

FramesAt = Callable[[Path, Sequence[float]], "Iterable[tuple[int, NDArray[np.uint8]]]"]


@dataclass(frozen=True)
class Wiring:
    """What commands need of other packages than their own, handed over by `cli`, so that none imports another.

    Attributes:
        load_encoder: Loads the encoder of references: `load_encoder(model, weights_sha256, weights=..., device=...,
            trust=...)`.
        published_weights: The sha256 of the weights that a model's name means by itself.
        published_model: What is known of a model by its name, of OpenAI's and the bundled one; None of any other.
        run: Runs one of the program's own commands, given its arguments; its exit code.
        frames_at: Decodes the frames of a video (or an image) at given times, milliseconds: the position of each time
            and its frame, (H, W, 3) uint8 RGB.
        score_columns: Cosines of an entry's frames with prompts, as `score.columns.score_columns` gives them.
    """

    load_encoder: Callable[..., ReferenceEncoder]
    published_weights: Callable[[str], str]
    published_model: Callable[[str], object]
    run: Callable[[Sequence[str]], int]
    frames_at: FramesAt
    score_columns: Callable[..., dict[str, NDArray[np.float32]]]


def surroundings(
    wiring: Wiring,
    cache_dir: Path,
    model: str | None,
    weights: Path | None,
    trust_weights: bool,
    device: str,
    verbose: bool,
    on_skip: Callable[[Path], None] = lambda _: None,
    extract_missing: ExtractMissing | None = None,
) -> Surroundings:
    """Wire the library to stderr and to the model; `on_skip` hears of each entry that cannot be used."""
    from .question import Surroundings

    def skip(path: Path, error: ClipcacheError) -> None:
        warn(f"Skipped: {error}")
        on_skip(path)

    load_encoder = _encoder_loader(wiring, weights, trust_weights, device, verbose)
    return Surroundings(cache_dir, model, load_encoder, wiring.published_weights, warn, skip, extract_missing)


def _encoder_loader(wiring: Wiring, weights: Path | None, trust: bool, device: str, verbose: bool) -> LoadEncoder:
    """Load the model that encodes references, when it turns out to be needed."""

    def load(name: str, weights_sha256: str) -> ReferenceEncoder:
        if verbose:
            warn(f"Loading {name} on device {device} to encode references that are not in the cache yet.")
        return wiring.load_encoder(name, weights_sha256, weights=weights, device=device, trust=trust)

    return load
