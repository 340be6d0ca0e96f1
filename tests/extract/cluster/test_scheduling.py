"""What a device gets next: the largest first, short ones together, smaller pieces towards the end."""

from __future__ import annotations

import random

import pytest
from clipcache.extract.cluster.scheduling import (
    LONG_BYTES,
    MOST_ITEMS,
    Chunk,
    Schedule,
    Seat,
    may_have_another,
    seats_of,
)

MIB = 1 << 20


def all_of(schedule: Schedule, devices: int) -> list[Chunk]:
    return list(iter(lambda: schedule.take(devices), None))


@pytest.mark.parametrize("devices", [1, 3, 64])
def test_every_item_is_given_out_once_the_largest_first(devices: int) -> None:
    sizes = [random.Random(row).choice([0, 1, MIB, 80 * MIB, 9000 * MIB]) for row in range(2000)]
    chunks = all_of(Schedule(sizes), devices)
    rows = [row for chunk in chunks for row in chunk.rows]
    assert sorted(rows) == list(range(2000))
    assert [sizes[row] for row in rows] == sorted(sizes, reverse=True)
    assert all(chunk.size == sum(sizes[row] for row in chunk.rows) for chunk in chunks)


def test_long_items_are_given_alone_and_short_ones_together() -> None:
    chunks = all_of(Schedule([LONG_BYTES, LONG_BYTES + 1, *[MIB] * 1000]), 1)
    assert [len(chunk.rows) for chunk in chunks[:3]] == [1, 1, 64]
    assert all(chunk.size <= LONG_BYTES for chunk in chunks[2:])
    assert [len(chunk.rows) for chunk in all_of(Schedule([1] * 500), 1)] == [MOST_ITEMS, MOST_ITEMS, 100]


def test_pieces_shrink_towards_the_end_where_devices_share_them() -> None:
    lengths = [len(chunk.rows) for chunk in all_of(Schedule([MIB] * 1000), 4)]
    assert lengths[0] > 30
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 1


def test_what_is_put_back_comes_first_and_alone() -> None:
    schedule = Schedule([1, 2, 3])
    first = schedule.take(1)
    assert first == Chunk((2, 1, 0), 6)
    schedule.put_back(first.rows)
    assert len(schedule) == 3
    assert all_of(schedule, 1) == [Chunk((2,), 3), Chunk((1,), 2), Chunk((0,), 1)]
    assert len(schedule) == 0


def test_a_second_piece_waits_behind_a_short_one_only() -> None:
    short, long = Chunk((1, 2), LONG_BYTES), Chunk((0,), LONG_BYTES + 1)
    assert may_have_another([])
    assert may_have_another([short])
    assert not may_have_another([long])
    assert not may_have_another([short, short])


def node(name: str, alive: bool = True, **resources: float) -> dict[str, object]:
    return {"NodeID": name, "NodeManagerHostname": f"host-{name}", "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("auto", [Seat("b", "host-b", 1, 8), Seat("b", "host-b", 1, 8)]),
        ("cuda", [Seat("b", "host-b", 1, 8), Seat("b", "host-b", 1, 8)]),
        ("cpu", [Seat("a", "host-a", 0, 4), Seat("b", "host-b", 0, 16)]),
    ],
)
def test_each_gpu_has_an_actor_and_without_gpus_each_node(device: str, expected: list[Seat]) -> None:
    nodes = [node("a", CPU=4.0), node("b", CPU=16.0, GPU=2.0), node("c", alive=False, CPU=4.0, GPU=8.0), node("d")]
    assert seats_of(nodes, device) == expected


def test_a_cluster_without_gpus_encodes_on_its_nodes() -> None:
    assert seats_of([node("a", CPU=4.0), node("head", CPU=0.0)], "auto") == [Seat("a", "host-a", 0, 4)]
    assert seats_of([node("a", CPU=4.0)], "cuda") == []
