"""Who gets what next: where actors can be, and the order and size of the pieces of work that they are given."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LONG_BYTES = 64 << 20
"""An item of so many bytes, about a minute of 1080p, is handed out alone; smaller ones together, up to as many."""

MOST_ITEMS = 200
"""How many small items are handed out together at most: opening a file costs something too."""

SHARE = 4
"""Each device gets what is left in about so many pieces: they shrink towards the end, so that all end together."""


@dataclass(frozen=True)
class Chunk:
    """A piece of work: what a device gets in one call.

    Attributes:
        rows: of the items.
        size: their bytes.
    """

    rows: tuple[int, ...]
    size: int

    @property
    def is_short(self) -> bool:
        """Whether it is done so soon that the next one should be waiting already."""
        return self.size <= LONG_BYTES


class Schedule:
    """Items that wait to be handed out: the largest first, since what is begun last must not take long.

    Args:
        sizes: bytes of each item; they stand for the time that it takes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._left = deque(sorted(range(len(sizes)), key=lambda row: -sizes[row]))
        self._bytes = sum(sizes)
        self._alone: deque[int] = deque()

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._left) + len(self._alone)

    def put_back(self, rows: Iterable[int]) -> None:
        """Let items be handed out again, each alone and before all others."""
        self._alone.extend(rows)

    def take(self, devices: int) -> Chunk | None:
        """The next piece of work, where so many devices share what is left; None if nothing waits."""
        if self._alone:
            return self._chunk([self._alone.popleft()])
        if not self._left:
            return None
        most = LONG_BYTES if devices <= 1 else min(LONG_BYTES, self._bytes // (devices * SHARE))
        rows = [self._left.popleft()]
        size = self._sizes[rows[0]]
        while self._left and len(rows) < MOST_ITEMS and size + self._sizes[self._left[0]] <= most:
            rows.append(self._left.popleft())
            size += self._sizes[rows[-1]]
        self._bytes -= size
        return self._chunk(rows)

    def _chunk(self, rows: Sequence[int]) -> Chunk:
        return Chunk(tuple(rows), sum(self._sizes[row] for row in rows))


def may_have_another(in_flight: Sequence[Chunk]) -> bool:
    """Whether a device that is at these should get one more: a second one waits behind a short one only."""
    return not in_flight or (len(in_flight) == 1 and in_flight[0].is_short)


@dataclass(frozen=True)
class Seat:
    """Room for an actor.

    Attributes:
        node: Ray's id of the node.
        host: its name, for messages.
        gpus: 1, or 0 for an actor that encodes on the CPU.
        cpus: cores that belong to it.
    """

    node: str
    host: str
    gpus: int
    cpus: int


def seats_of(nodes: Iterable[dict[str, Any]], device: str) -> list[Seat]:
    """Where actors can be: one a GPU, each with its part of the node's cores; without GPUs one a node.

    Args:
        nodes: what `ray.nodes()` says.
        device: "auto", "cpu" or "cuda".
    """
    alive = [node for node in nodes if node["Alive"]]
    gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in alive}
    seats = []
    for node in alive:
        count, cores = gpus[node["NodeID"]], int(node["Resources"].get("CPU", 0))
        host = str(node.get("NodeManagerHostname") or node["NodeID"])
        if device == "cuda" or (device == "auto" and any(gpus.values())):
            seats += [Seat(node["NodeID"], host, 1, cores // count) for _ in range(count)]
        elif cores:
            seats.append(Seat(node["NodeID"], host, 0, cores))
    return seats
