"""Peak memory of `clipcache extract` and everything it starts, against the length of a 1080p video.

    python benchmarks/memory.py --weights ViT-B-32.safetensors --minutes 1 --minutes 10

Memory is the sum of the proportional set sizes (PSS) of the process tree, read from /proc every 0.2 s: Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from videos import write_long_video


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), required=True, help="Weights of ViT-B/32's size.")
@click.option("--minutes", multiple=True, type=float, default=(1.0, 10.0), show_default=True)
@click.option("--model", default="ViT-B/32", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--seconds", default=0.0, help="Stop each run after so many seconds; 0 lets it end.")
def main(weights: Path, minutes: tuple[float, ...], model: str, workers: int, seconds: float) -> None:
    """Print one line per length."""
    with tempfile.TemporaryDirectory() as folder:
        for length in minutes:
            video = Path(folder, f"{length:g}min.mp4")
            write_long_video(video, length)
            command = [sys.executable, "-c", "from clipcache.cli import main; main()", "extract", str(video)]
            command += ["--cache", f"{folder}/cache", "--weights", str(weights), "--model", model]
            peak, took = peak_bytes([*command, "--num-workers", str(workers)], seconds)
            print(f"{length:g} min 1080p: peak {peak / 2**30:.2f} GiB in {took:.0f} s")


def peak_bytes(command: list[str], seconds: float = 0.0) -> tuple[int, float]:
    """Run a command; the highest sum of PSS over its process tree, and its wall-clock time in seconds."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid)))
        if seconds and time.monotonic() - started > seconds:
            process.terminate()
        time.sleep(0.2)
    return peak, time.monotonic() - started


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
