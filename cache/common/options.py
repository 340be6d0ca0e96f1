"""What the commands of all packages share: options, and messages on stderr."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .errors import UsageError
from .messages import is_shown, log_to, say
from .quoting import one_line

PATH = click.Path(path_type=Path)
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number in a range; click itself takes nan for a member of every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


POSITIVE = Number(0, min_open=True)
SECOND = Number()
"""A time on a video's clock, which may start before 0."""
COSINE = Number(-1, 1)
COUNT = click.IntRange(1)


def warn(sentence: str) -> None:
    """Say one line, as `messages.say`; line breaks and terminal escapes in names of files are escaped."""
    say(one_line(sentence))


def _open_log(_: click.Context, __: click.Parameter, path: Path | None) -> None:
    if path is not None and is_shown():  # not where a command line is only parsed
        log_to(path)


def options(*several: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Join options that several commands share into one decorator."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(several):
            command = option(command)
        return command

    return decorate


CACHE = click.option(
    "--cache",
    "cache_dir",
    type=PATH,
    default="features",
    envvar="CLIPCACHE_CACHE",
    show_default=True,
    help="Directory of the cache.",
)
LOG_FILE = click.option(
    "--log-file",
    type=PATH,
    callback=_open_log,
    expose_value=False,
    help="Add what is said on stderr to this file, with the time, and the progress every 30 seconds.",
)
DEBUG = options(
    LOG_FILE, click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
)
WEIGHTS = options(
    click.option("--weights", type=PATH, envvar="CLIPCACHE_WEIGHTS", help="File of the model's weights."),
    click.option("--trust-weights", is_flag=True, help="Open a TorchScript archive that OpenAI did not publish."),
)


def check_one_device(device: str) -> None:
    """Refuse the names of several devices.

    Raises:
        UsageError: if there is a comma, or it is "cuda:all".
    """
    if "," in device or device == "cuda:all":
        raise UsageError(
            f"--device {device} means several devices, which clipcache extract alone can use",
            "name one of them with --device",
        )


def _one_device(context: click.Context, option: click.Parameter, device: str) -> str:  # noqa: ARG001  a callback
    check_one_device(device)
    return device


def device_option(text: str, callback: Any = None) -> Callable[[_Command], _Command]:
    """The option that names where to compute, with its help text."""
    return click.option("--device", default="auto", envvar="CLIPCACHE_DEVICE", callback=callback, help=text)


LOADING = options(WEIGHTS, device_option("auto, cpu, cuda or cuda:N.", _one_device))
