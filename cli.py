"""The command line: the group of all commands, and the wires between the packages.

Each package has its own `command.py` of click commands, a few typed lines each, with heavy imports inside, so that
`clipcache --help` answers at once. Where one package needs another that it must not import, it gets it from here.
`main` alone turns errors into exit codes.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .cache.command import cache_group
from .cache.common.errors import ClipcacheError
from .cache.common.messages import show_progress
from .cache.common.options import warn
from .cache.common.standard_streams import OutputError, close_standard_streams, give_up, open_standard_streams
from .cache.common.system_errors import explained, shortage_behind
from .cache.export.command import export
from .cache.importing.command import import_features
from .demo.command import demo
from .extract.cluster.command import status
from .extract.command import extract
from .extract.machine.command import doctor, models
from .score.align.command import align
from .score.command import compare, score
from .score.consistency_command import consistency
from .score.options import Wiring
from .score.quality.command import aesthetic, benchmark
from .score.search.command import search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .cache import Entry
    from .cache.common.paths import StrPath
    from .cache.importing.entry_of import PublishedModel
    from .cache.importing.frames_of_video import VideoFrames
    from .score.references import ReferenceEncoder

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Program(click.Group):
    """The group of all commands; what they say is shown, and their work has bars."""

    def invoke(self, ctx: click.Context) -> Any:
        """See `click.Group`."""
        with show_progress():
            return super().invoke(ctx)


@click.group(cls=_Program, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="clipcache")
@click.pass_context
def cli(context: click.Context) -> None:
    """Encode every frame of a video library with CLIP once; score, search and export it ever after."""
    context.obj = Wiring(
        load_encoder=_load_encoder,
        published_weights=_published_weights,
        published_model=_published_model,
        read_frames=_read_frames,
        run=_run,
        frames_at=_frames_at,
        score_columns=_score_columns,
    )


_PICTURES = (extract, score, compare, search, consistency, aesthetic, benchmark, align)
_LIBRARY = (cache_group, export, import_features)
_PROGRAM = (models, doctor, demo)
for _command in (*_PICTURES, *_LIBRARY, *_PROGRAM):
    cli.add_command(_command)
cache_group.add_command(status)


def _load_encoder(
    model: str, weights_sha256: str, *, weights: Path | None, device: str, trust: bool
) -> ReferenceEncoder:
    from .cache.format.names import is_clap

    if is_clap(model):
        from .extract.audio.clap import load_text_encoder

        return load_text_encoder(model, weights_sha256, directory=weights, device=device)
    from .extract.models.prompts import load_reference_encoder

    return load_reference_encoder(model, weights_sha256, weights=weights, device=device, trust=trust)


def _published_weights(model: str, weights: StrPath | None) -> str:
    from .cache.common.hashing import DigestMemo
    from .extract.models.registry import find_weights

    return find_weights(model, weights, DigestMemo()).sha256


def _published_model(model: str) -> PublishedModel | None:
    from .extract.models.weights import known_model

    return known_model(model)


def _read_frames(path: Path) -> VideoFrames:
    from .extract.video.index import read_index

    return read_index(path)


def _score_columns(
    entry: Entry, texts: tuple[str, ...], *, cache_dir: Path, weights: Path | None, device: str, trust: bool
) -> dict[str, NDArray[np.float32]]:
    from .score.export_columns import score_columns

    return score_columns(entry, texts, cache_dir, _encoder_loader(weights, device, trust))


@functools.lru_cache(maxsize=1)
def _encoder_loader(weights: Path | None, device: str, trust: bool) -> Callable[[str, str], ReferenceEncoder]:
    """One function for one run, so that what is remembered by it is found again."""
    return functools.partial(_load_encoder, weights=weights, device=device, trust=trust)


def _frames_at(path: Path, timestamps_ms: Sequence[float]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    from .extract.video.frames_at import frames_at

    return frames_at(path, timestamps_ms)


def _run(arguments: Sequence[str]) -> int:
    """Run one of our own commands as a user would; its exit code."""
    return cli.main(list(arguments), standalone_mode=False) or 0


def main() -> NoReturn:
    """Run the program; every known error becomes one sentence on stderr and an exit code."""
    # NumPy's threads wait for one another by spinning: on the narrow products of scores they gain nothing alone, and
    # take four times as long beside another program. (torch has threads of its own.)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    open_standard_streams()
    with show_progress():  # until the last word, which a log file gets too
        try:
            code = cli.main(standalone_mode=False)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except click.Abort:
            code = 130
        except Exception as error:
            if "--debug" in sys.argv:
                raise
            code = _tell(error)
        code = close_standard_streams(code or 0)
    sys.exit(code)


def _tell(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code."""
    known = shortage_behind(error) or (error if isinstance(error, ClipcacheError) else explained(error))
    if known is not None:
        warn(str(known))
        if isinstance(known, OutputError):
            give_up(sys.stdout)
        return known.exit_code
    warn(f"Unexpected {type(error).__name__}: {str(error)[:200]}; please report it with what --debug prints.")
    return 1
