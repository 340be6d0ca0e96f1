"""Options of all commands: a number that means nothing is a wrong request, and so is an option that has no effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from clipcache.cache.common.errors import UsageError
from clipcache.cli import cli

# Options that take a negative number: a cosine, decibels, and times on a clock that may start before 0.
SIGNED = {"--threshold", "--high", "--low", "--duplicates", "--silence", "--start", "--end"}


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from options(below, (*path, name))
    for option in command.params:
        if isinstance(option, click.Option):
            yield path, option


FLOATS = [(path, one.opts[0]) for path, one in options(cli) if isinstance(one.type, click.types.FloatParamType)]
WHOLE = [(path, one.opts[0]) for path, one in options(cli) if isinstance(one.type, click.types.IntParamType)]


def refused(path: tuple[str, ...], option: str, value: str) -> bool:
    """Whether click refuses a value, before anything is looked at, naming the option."""
    result = CliRunner().invoke(cli, [*path, option, value])
    return result.exit_code == 2 and f"Invalid value for '{option}'" in result.stderr


@pytest.mark.parametrize(("path", "option"), FLOATS, ids=lambda value: value if isinstance(value, str) else value[-1])
def test_numbers_that_mean_nothing_are_refused(path: tuple[str, ...], option: str) -> None:
    wrong = ["nan", "inf", "-inf", "many"]
    wrong += [] if option in SIGNED else ["-1"] if option == "--min-gap" else ["-1", "0"]
    assert [value for value in wrong if not refused(path, option, value)] == []


@pytest.mark.parametrize(("path", "option"), WHOLE, ids=lambda value: value if isinstance(value, str) else value[-1])
def test_counts_start_at_one(path: tuple[str, ...], option: str) -> None:
    assert [value for value in ("0", "-1", "1.5", "nan") if not refused(path, option, value)] == []


def test_the_options_that_take_numbers_are_found() -> None:
    assert len(FLOATS) > 25
    assert len(WHOLE) > 7
    assert {option for _, option in FLOATS} >= SIGNED | {"--fps", "--interval", "--min-gap", "--stall-seconds"}


@pytest.mark.parametrize("words", [["--plot-kind", "time"], ["--plot-kind", "heatmap"], ["--plot-frames"]])
def test_what_is_for_a_plot_needs_one(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --plot FILE"):
        CliRunner().invoke(cli, ["score", "--text", "a dog", *words], catch_exceptions=False)
