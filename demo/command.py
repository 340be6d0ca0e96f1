"""`clipcache demo`: a small library, and the program's own commands on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import click

from ..cache.common.options import DEBUG, PATH


class Wiring(Protocol):
    """What the demo needs of the rest of the program, handed over by `cli`."""

    @property
    def run(self) -> Callable[[Sequence[str]], int]:
        """Run one of the program's own commands, given its arguments; its exit code."""


@click.command(short_help="Make a small library of videos, and show the program on it.")
@click.argument("folder", default="clipcache-demo", type=PATH)
@click.option("--videos-only", is_flag=True, help="Write only the videos and truth.json: what is shown when.")
@DEBUG
@click.pass_obj
def demo(wiring: Wiring, folder: Path, videos_only: bool) -> None:
    """Write synthetic videos to FOLDER, encode them with the bundled demo model, score them, and draw a plot.

    The demo model is tiny: it is there for demonstrations, tests and CI. It knows shapes, colours and how well a
    picture was taken, not the world. Nothing is downloaded.
    """
    from .library import write_library
    from .tour import VIDEOS, steps, truth_lines

    truth = write_library(folder / VIDEOS)
    click.echo(f"Six videos and truth.json, which says what they show when: {folder / VIDEOS}")
    if videos_only:
        return
    for step in steps(folder):
        click.echo(step)
        if code := wiring.run(step.arguments):
            click.get_current_context().exit(code)
    click.echo("\n# What the videos show, from truth.json:\n" + "\n".join(truth_lines(truth)))
