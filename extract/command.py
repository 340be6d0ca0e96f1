"""The command `clipcache extract`."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..cache.common.messages import say
from ..cache.common.options import CACHE, COUNT, LOG_FILE, PATH, POSITIVE, WEIGHTS, device_option
from ..cache.common.urls import word_without_credentials
from .cluster.shards import Shard
from .interrupts import noticed
from .workers.sizing import STALL_SECONDS, START_SECONDS


def _auto_or_at_least(least: int) -> Callable[[click.Context, click.Parameter, Any], int | None]:
    """A callback that reads `auto` as None, and anything else as a whole number from `least` on."""

    def convert(context: click.Context, option: click.Parameter, value: Any) -> int | None:
        return None if value == "auto" else click.IntRange(min=least).convert(value, option, context)

    return convert


def _shard(_context: click.Context, _option: click.Parameter, value: str | None) -> Shard | None:
    return None if value is None else Shard.parse(value)


@click.command(short_help="Encode every frame of videos and images into the cache.")
@click.argument("inputs", nargs=-1, type=click.Path())
@click.option(
    "--list", "list_file", type=PATH, help="More inputs: a path a line, or a CSV with a path column; - is stdin."
)
@CACHE
@click.option(
    "--model",
    default="ViT-B/32",
    envvar="CLIPCACHE_MODEL",
    show_default=True,
    help="Name of the model; clap: encode sound only.",
)
@WEIGHTS
@device_option(
    "auto, cpu, cuda, cuda:N, cuda:all, or several, such as cuda:0,cuda:1: a process encodes on each; sound is encoded "
    "on the first."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Precision of the encoder; auto: fp16 on CUDA, bf16 where the CPU computes in it, else fp32.",
)
@click.option(
    "--batch-size",
    metavar="auto|N",
    callback=_auto_or_at_least(1),
    default="auto",
    show_default=True,
    help="Pictures per batch.",
)
@click.option(
    "--num-workers",
    metavar="auto|N",
    callback=_auto_or_at_least(0),
    default="auto",
    show_default=True,
    help="Decoding processes; 0: decode in this process.",
)
@click.option(
    "--decoder",
    type=click.Choice(["auto", "decord", "pyav"]),
    default="auto",
    show_default=True,
    help="auto: decord where its frames equal PyAV's bit for bit, else PyAV.",
)
@click.option("--fps", type=POSITIVE, help="Encode this many frames a second of video, not every frame.")
@click.option("--every", type=COUNT, help="Encode every N-th frame.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Type of the cached features.",
)
@click.option(
    "--quality",
    is_flag=True,
    help="Measure each frame too: sharpness, contrast, exposure, colourfulness, brightness and their composite.",
)
@click.option("--audio", is_flag=True, help="Encode sound by CLAP too; audio files then are inputs like videos.")
@click.option(
    "--audio-window",
    type=POSITIVE,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Length of a window of sound; each has one feature.",
)
@click.option(
    "--audio-hop",
    type=POSITIVE,
    metavar="SECONDS",
    help="From the start of a window to that of the next; default: as long as a window.",
)
@click.option(
    "--audio-weights", type=PATH, metavar="DIR", envvar="CLIPCACHE_AUDIO_WEIGHTS", help="Folder of a saved CLAP model."
)
@click.option(
    "--stall-seconds",
    type=POSITIVE,
    default=STALL_SECONDS,
    show_default=True,
    help="Kill a decoding process that gives no sign of work for so long.",
)
@click.option(
    "--start-seconds",
    type=POSITIVE,
    default=START_SECONDS,
    show_default=True,
    help="How long a decoding process may take to start; a loaded machine or a slow network disk may need more.",
)
@click.option("--overwrite", is_flag=True, help="Encode again what is cached.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@click.option(
    "--limit-memory", metavar="SIZE", help="Use fewer and smaller decoding processes, to stay under SIZE, such as 4GB."
)
@click.option(
    "--claims/--no-claims",
    default=True,
    show_default=True,
    help="Share the work with other runs into the same cache, by small files in it.",
)
@click.option(
    "--shard",
    metavar="I/N|auto",
    callback=_shard,
    help="Take the I-th of N parts of the inputs, counted from 0; auto: as this task of SLURM or torchrun is numbered.",
)
@click.option(
    "--ray",
    "ray_address",
    metavar="ADDRESS|auto|local",
    help="Encode on every device of a Ray cluster; auto: of the one that runs here; local: one made of this machine.",
)
@click.option(
    "--scratch",
    type=PATH,
    metavar="DIR",
    help="Where inputs from URLs and tars lie for a while; default: TMPDIR.",
)
@click.option(
    "--scratch-size",
    metavar="SIZE",
    default="20GB",
    show_default=True,
    help="How much of these at once, such as 4GB.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done with each input, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="One line for each input on stderr.")
@LOG_FILE
@click.option("--debug", is_flag=True, help="Tracebacks, and the decoders' own messages.")
def extract(
    inputs: tuple[str, ...],
    list_file: Path | None,
    cache_dir: Path,
    fps: float | None,
    every: int | None,
    limit_memory: str | None,
    scratch_size: str,
    audio: bool,
    audio_window: float,
    audio_hop: float | None,
    audio_weights: Path | None,
    ray_address: str | None,
    dry_run: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Encode every frame of INPUT...: videos, images, folders of them, globs; with --audio their sound as well.

    Tars of videos and URLs (https://, s3://, gs://) are inputs too, with globs and ranges: shards/{000..009}.tar.

    Of a folder that holds images alone, these are one entry; images beside videos are left out unless they are named.

    What is in the cache already is not decoded again, even if the file was moved or renamed.
    """
    from ..cache.format.sampling import Sampling
    from .dispatch import carry_out_on_ray, decide, sound_options
    from .options import ExtractOptions
    from .workers.sizing import parse_bytes

    memory_limit = parse_bytes(limit_memory) if limit_memory else None
    choices["scratch_bytes"] = parse_bytes(scratch_size)
    options = ExtractOptions(sampling=Sampling(fps, every), memory_limit=memory_limit, **choices)
    sound = sound_options(options, audio=audio, directory=audio_weights, window_s=audio_window, hop_s=audio_hop)
    with _resumable():
        if ray_address is not None and not dry_run:
            outcome = carry_out_on_ray(inputs, list_file, cache_dir, options, sound, ray_address)
        else:
            jobs = decide(inputs, list_file, cache_dir, options, sound)
            if dry_run:
                click.echo(jobs.as_json() if as_json else jobs.as_text())
                return
            outcome = jobs.carry_out()
    click.echo(outcome.as_json() if as_json else outcome.as_text())
    click.get_current_context().exit(1 if outcome.failed else 0)


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a run cleanly, and say how to resume it."""
    try:
        with noticed():
            yield
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean end
        command = shlex.join(["clipcache", *map(word_without_credentials, sys.argv[1:])])
        kept = "Stopped. What is finished is kept; to go on, run the same command again"
        say(f"\n{kept}: {command}", by_itself=True)
        code = 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
        raise click.exceptions.Exit(int(code)) from None
