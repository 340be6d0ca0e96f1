"""The benchmark: `python -m benchmarks.run [--quick]`, from the root of the checkout.

Measures what is written in each section's module, prints the tables and writes them to RESULTS.md, where whatever
people wrote below the line `<!-- by hand -->` stays. A full run takes about an hour on two cores and, for an hour of
1080p, 4 GB of disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from . import (
    baselines,
    ceilings,
    end_to_end,
    growth,
    memory,
    proof,
    ray_overhead,
    rescoring,
    sampling,
    scheduling,
    sharing,
    skip_path,
)
from .context import QUICK, Context, Sizes
from .report import Report, Section

SECTIONS: dict[str, Callable[[Context], Section]] = {
    "ceilings": ceilings.measure,
    "end_to_end": end_to_end.measure,
    "baselines": baselines.measure,
    "rescoring": rescoring.measure,
    "skip_path": skip_path.measure,
    "memory": memory.measure,
    "growth": growth.measure,
    "proof": proof.measure,
    "sampling": sampling.measure,
    "sharing": sharing.measure,
    "scheduling": scheduling.measure,
    "ray_overhead": ray_overhead.measure,
}
BY_HAND = "<!-- by hand -->"
_RESULTS = Path(__file__).with_name("RESULTS.md")


@click.command()
@click.option("--quick", is_flag=True, help="A few minutes: small sizes, few rounds, fewer kinds of video.")
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)), help="This section alone; may be repeated.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: RESULTS.md here, unless --only is given.")
@click.option("--data", type=click.Path(path_type=Path), help="Keeps videos and weights for next time.")
def main(quick: bool, only: tuple[str, ...], output: Path | None, data: Path | None) -> None:
    """Measure and print everything, or the sections named."""
    mode = ("quick" if quick else "full") + (f", only {' '.join(only)}" if only else "")
    report = run(QUICK if quick else Sizes(), only or tuple(SECTIONS), mode, data)
    path = output or (None if only else _RESULTS)
    if path:
        write(report, path)


def run(sizes: Sizes, names: Sequence[str], mode: str, data: Path | None = None, model: str = "ViT-B/32") -> Report:
    """Measure the sections named, in order, and print each as it comes."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipcache-benchmark-")))
        data = data or scratch / "data"
        data.mkdir(parents=True, exist_ok=True)
        context = Context(sizes, data.resolve(), scratch, model)
        stack.callback(context.drop)
        sections = [_timed(SECTIONS[name], context) for name in SECTIONS if name in names]
    return Report(mode, sections)


def _timed(measure: Callable[[Context], Section], context: Context) -> Section:
    started = time.monotonic()
    section = replace(measure(context), seconds=time.monotonic() - started)
    print(section.as_markdown(), end="\n\n", flush=True)
    return section


def write(report: Report, path: Path) -> None:
    """Write the report, and keep what people wrote below it."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    _, line, kept = before.partition(BY_HAND)
    path.write_text(report.as_markdown() + (f"\n{line}{kept}" if line else ""), encoding="utf-8")
    print(f"Written: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
