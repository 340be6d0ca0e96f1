"""How many workers a run gets, how they resize, and when one is taken for hung."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from ...cache.common.errors import UsageError

GIB = 1 << 30

STALL_SECONDS = 60.0
"""A worker that decodes no frame for so long is taken for hung; opening a file on a slow network counts as silence."""

START_SECONDS = 300.0
"""How long a worker may take to start: it imports FFmpeg's libraries, from a loaded machine or a slow network disk."""

# Resident memory as measured with torch 2.15, CUDA build: the parent with ViT-B/32 loaded, and one worker while it
# decodes 1080p, with torch for resizing and without.
PARENT_BYTES = int(1.6 * GIB)
WORKER_BYTES = {"torch": int(1.1 * GIB), "pil": int(0.6 * GIB)}

# The parent with the published CLAP is as large as with ViT-B/32 (1.5 GB). A worker that decodes sound holds 0.1 GB,
# and the parent a batch for each.
SOUND_WORKER_BYTES = GIB // 4

SOUND_MEMORY_BYTES = 2 * GIB
"""What a worker that decodes sound may allocate unless told otherwise: the index of days of MP4 fits, and packets of a
file that lies about their length do not."""

_MOST_SOUND_WORKERS = 4  # the spectra are computed in the parent, and four decode faster than it does that


@dataclass(frozen=True)
class Workers:
    """Number of decoding processes (0: none, decode in the caller's) and how they resize: "torch" or "pil"."""

    count: int
    resize: str


@dataclass(frozen=True)
class SoundWorkers:
    """Number of processes that decode sound (0: none, decode in the caller's), and the bytes that each may allocate."""

    count: int
    memory: int


def choose_workers(requested: int | None, devices: str, memory_limit: int | None) -> Workers:
    """Workers for a run.

    On a CPU encoding takes most of the time and shares the cores: ViT-B/32 needs four times the core-seconds that a
    frame of 1080p takes to decode, so a third of the cores is enough, and each worker beyond what is needed costs 5 %.
    Beside a GPU decoding is what takes time, and every core decodes.

    Args:
        requested: number of workers asked for; None chooses.
        devices: where the encoder runs, as a torch device string; several are separated by commas, and
            each has a process of its own.
        memory_limit: bytes that the whole run may hold; None for no limit.

    Raises:
        UsageError: if the limit does not allow one worker, or as many as were asked for.
    """
    cores = usable_cores()
    count = requested if requested is not None else cores if "cuda" in devices else max(1, (cores + 1) // 3)
    if memory_limit is None or count == 0:
        return Workers(count, "torch")
    number = devices.count(",") + 1
    encoding = PARENT_BYTES * (number + 1 if number > 1 else 1)
    for resize in ("torch", "pil"):
        affordable = (memory_limit - encoding) // WORKER_BYTES[resize]
        if affordable >= (requested or 1):
            return Workers(min(count, affordable), resize)
    raise _too_low(encoding, requested or 1, WORKER_BYTES["pil"])


def choose_sound_workers(requested: int | None, device: str, memory_limit: int | None) -> SoundWorkers:
    """Workers that decode sound; see `choose_workers`."""
    auto = min(choose_workers(None, device, None).count, _MOST_SOUND_WORKERS)
    count = auto if requested is None else requested
    if memory_limit is None or count == 0:
        return SoundWorkers(count, SOUND_MEMORY_BYTES)
    for_workers = memory_limit - PARENT_BYTES
    if for_workers < (requested or 1) * SOUND_WORKER_BYTES:
        raise _too_low(PARENT_BYTES, requested or 1, SOUND_WORKER_BYTES)
    count = min(count, for_workers // SOUND_WORKER_BYTES)
    return SoundWorkers(count, min(SOUND_MEMORY_BYTES, for_workers // count))


def _too_low(encoding: int, count: int, worker_bytes: int) -> UsageError:
    least = math.ceil(10 * (encoding + count * worker_bytes) / GIB) / 10
    return UsageError(f"--limit-memory is too low for {count} worker(s); the least that works is {least:.1f}GB")


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_bytes(text: str) -> int:
    """Bytes of "4GB", "512MB" or "4" (gigabytes).

    Raises:
        UsageError: if it is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([MG])i?B?)?\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is not a size", "write 4GB or 512MB")
    unit = {"M": 1 << 20, "G": GIB}[(match[2] or "G").upper()]
    return int(float(match[1]) * unit)
