"""10. Scheduling by simulation: how long 64 devices are idle over 100,000 videos of very different lengths."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from clipcache.extract.cluster.scheduling import Chunk, Schedule, may_have_another

from .context import Context
from .report import Row, Section, Target

DEVICES = 64
MOST_IDLE = 0.05

_VIDEOS = 100_000
_BYTES_PER_S = 500_000  # of video: 4 Mbit/s
_RATE = 4e6  # bytes that a device does in a second
_UNEVEN = 0.1
_NOISE = 0.3  # of the time that a video takes, which its size tells only roughly
_LONGEST_S = 36_000.0
_CALL_S = 0.1
"""What a call costs, in which the device does nothing: measured with Ray, it is less."""


def measure(_: Context) -> Section:
    """Sets of several kinds, each by simulation: nothing is timed."""
    rng = np.random.default_rng(0)
    sets = {
        "log-normal, median 2 min, sigma 1.5": rng.lognormal(math.log(120), 1.5, _VIDEOS),
        "Pareto, from 20 s, exponent 1.2": (rng.pareto(1.2, _VIDEOS) + 1) * 20,
        "clips of about 10 s": rng.lognormal(math.log(10), 0.3, _VIDEOS),
    }
    rows = []
    for name, seconds in sets.items():
        outcome = _outcome(np.minimum(seconds, _LONGEST_S), rng)
        target = Target("<=", MOST_IDLE, of_value=True)
        rows.append(Row(f"idle share, {name}", outcome.idle, target=target))
        rows.append(Row(f"calls, {name}", outcome.calls, digits=6))
    notes = [
        f"{DEVICES} devices whose speeds differ by up to {_UNEVEN:.0%} from the middle, {_VIDEOS:,} videos of up to "
        f"{_LONGEST_S / 3600:.0f} h, given out as by `extract --ray`. A video takes the time that "
        f"its size says times a log-normal factor (sigma {_NOISE}), a call {_CALL_S} s more. Idle is what of devices "
        "times makespan is not decoding and encoding. Simulated with a fixed seed; no such cluster was measured.",
    ]
    return Section("10. Scheduling", rows, notes)


@dataclass(frozen=True)
class _Outcome:
    idle: float
    calls: int


def _outcome(seconds: npt.NDArray[np.float64], rng: np.random.Generator) -> _Outcome:
    sizes = (seconds * _BYTES_PER_S).astype(int).tolist()
    work = (np.asarray(sizes) * rng.lognormal(0.0, _NOISE, len(sizes))).tolist()
    speeds = (rng.uniform(1 - _UNEVEN, 1 + _UNEVEN, DEVICES) * _RATE).tolist()
    return _simulate(sizes, work, speeds)


def _simulate(sizes: Sequence[int], work: Sequence[float], speeds: Sequence[float]) -> _Outcome:
    """Let devices take and do chunks as the driver of Ray gives them."""
    schedule = Schedule(sizes)
    at: Mapping[int, deque[Chunk]] = {device: deque() for device in range(len(speeds))}
    ends: list[tuple[float, int]] = []
    now = busy = 0.0
    calls = 0
    while True:
        for depth in (0, 1):
            for device, chunks in at.items():
                if len(chunks) == depth and may_have_another(chunks) and (chunk := schedule.take(len(speeds))):
                    calls += 1
                    chunks.append(chunk)
                    if depth == 0:
                        busy += _begin(chunk, device, now, work, speeds, ends)
        if not ends:
            return _Outcome(1 - busy / (len(speeds) * now), calls)
        now, device = heapq.heappop(ends)
        at[device].popleft()
        if at[device]:
            busy += _begin(at[device][0], device, now, work, speeds, ends)


def _begin(
    chunk: Chunk, device: int, now: float, work: Sequence[float], speeds: Sequence[float], ends: list[tuple[float, int]]
) -> float:
    seconds = sum(work[row] for row in chunk.rows) / speeds[device]
    heapq.heappush(ends, (now + seconds + _CALL_S, device))
    return seconds
