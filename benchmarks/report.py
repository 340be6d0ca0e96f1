"""What a benchmark tells: rows with targets, the machine, and both as Markdown."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

PACKAGES = ("clipcache", "torch", "decord2", "decord", "av", "numpy", "h5py", "openai-clip", "Pillow")
_HEAD = ("what", "value", "ratio", "target", "met", "runs")


@dataclass(frozen=True)
class Target:
    """A bound that a row is held to: at least, or at most.

    Attributes:
        sense: ">=" or "<=".
        bound: In the row's unit, or a ratio.
        of_value: Whether the row's value is meant, and not its ratio.
        text: To print in place of sense and bound.
    """

    sense: str
    bound: float
    of_value: bool = False
    text: str = ""

    def __str__(self) -> str:
        return self.text or f"{self.sense} {self.bound:g}{'' if self.of_value else ' x'}"

    def is_met_by(self, measured: float) -> bool:
        """Whether a measured number keeps the bound."""
        return measured >= self.bound if self.sense == ">=" else measured <= self.bound


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        what: It, in words.
        value: Median over the runs; None where only the ratio means something.
        unit: Of the value.
        ratio: To what the words say; None where there is nothing to compare with.
        target: What was asked for; None where nothing was.
        runs: How many runs the median is taken over.
        digits: Of the value that count.
    """

    what: str
    value: float | None
    unit: str = ""
    ratio: float | None = None
    target: Target | None = None
    runs: int = 1
    digits: int = 3

    @property
    def met(self) -> str:
        """Whether the target is met: "yes", "no", or nothing where there is none."""
        measured = self.value if self.target is not None and self.target.of_value else self.ratio
        if self.target is None or measured is None:
            return ""
        return "yes" if self.target.is_met_by(measured) else "no"

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        value = "" if self.value is None else f"{number(self.value, self.digits)} {self.unit}".rstrip()
        ratio = "" if self.ratio is None else f"{number(self.ratio)} x"
        return self.what, value, ratio, str(self.target or ""), self.met, str(self.runs)


@dataclass(frozen=True)
class Section:
    """One part of the benchmark: a table, and what a reader must know of how it was measured."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    seconds: float = 0.0

    def as_markdown(self) -> str:
        """Heading, table, notes, and how long it took."""
        lines = [f"## {self.title}", "", _line(_HEAD), _line(["---"] * len(_HEAD))]
        lines += [_line(row.cells()) for row in self.rows]
        notes = [f"- {note}" for note in (*self.notes, f"This section took {self.seconds:.0f} s.")]
        return "\n".join([*lines, "", *notes])


def number(value: float, digits: int = 3) -> str:
    """So many digits that count, all of those before the point: few measurements know more than three."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@dataclass(frozen=True)
class Report:
    """All sections of one run, and what they were measured on."""

    mode: str
    sections: Sequence[Section]
    machine: str = field(default_factory=lambda: machine())
    versions: str = field(default_factory=lambda: versions())
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime("%Y-%m-%d"))

    def as_markdown(self) -> str:
        """The whole of RESULTS.md, but for what people add below it."""
        head = [
            "# Measured",
            "",
            f"Written by `python -m benchmarks.run`, mode: {self.mode}, {self.date}.",
            "",
            f"- Machine: {self.machine}.",
            f"- Versions: {self.versions}.",
            "- Values are medians over the runs. The sides of a ratio were run in turns, A B A B, in this one run of "
            "the program; a ratio is the median of the ratios of the turns, not the ratio of the medians.",
            "- Weights are random, of ViT-B/32's size; videos are synthetic: moving texture under noise, H.264.",
        ]
        return "\n\n".join(["\n".join(head), *(section.as_markdown() for section in self.sections)]) + "\n"


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor, cores, memory and, if there is one, GPU, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [_processor(), f"{usable_cores()} cores", f"{memory:.0f} GiB", _gpu() or "no GPU", platform.system()]
    return ", ".join(parts)


def _processor() -> str:
    """The model's name and what decides about precisions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)
    flags = found.get("flags", "").split()
    features = [name for name in ("avx512_bf16", "amx_bf16") if name in flags] or ["no bf16"]
    family = f"family {found.get('cpu family', '?')}, model {found.get('model', '?')}"
    return f"{found.get('model name', platform.machine())} ({family}, {', '.join(features)})"


def _gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.replace(",", "").strip()


def versions() -> str:
    """Python and the packages that matter."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
