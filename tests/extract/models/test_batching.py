"""Batches may be done in any order; each owner gets the features of its own pictures, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from clipcache.extract.models.batching import Batcher

BATCH = 4


class Pending:
    """Features that are there when the test says so."""

    def __init__(self, pictures: Any) -> None:
        self.features = pictures.numpy()[:, 0, 0, :1].astype(np.float32)  # the first byte of each picture
        self.is_done = False

    def done(self) -> bool:
        return self.is_done

    def result(self) -> np.ndarray[Any, Any]:
        assert self.is_done
        return self.features


class Encoder:
    """Several devices of unequal speed, of which `finish` says which batch is done next."""

    min_batch = 1

    def __init__(self, in_flight: int, finish: Any) -> None:
        self.in_flight = in_flight
        self.started: list[Pending] = []
        self._finish = finish

    def new_batch(self) -> Any:
        return torch.zeros((BATCH, 1, 1, 3), dtype=torch.uint8)

    def encode(self, pictures: Any) -> Pending:
        self.started.append(Pending(pictures))
        return self.started[-1]

    def wait(self, pending: Sequence[Pending]) -> None:
        assert not any(one.is_done for one in pending)
        self._finish(list(pending))


def numbered(count: int, start: int = 0) -> np.ndarray[Any, Any]:
    return np.arange(start, start + count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_features_are_in_the_order_of_the_pictures_in_whatever_order_batches_are_done(in_flight: int) -> None:
    rng = np.random.default_rng(in_flight)

    def finish(pending: list[Pending]) -> None:
        for one in rng.choice(np.array(pending, object), rng.integers(1, len(pending) + 1), replace=False):
            one.is_done = True

    found: list[tuple[str, int]] = []
    encoder: Any = Encoder(in_flight, finish)
    batcher: Batcher[str] = Batcher(encoder, lambda owner, some: found.extend((owner, int(row)) for row in some[:, 0]))
    expected, start = [], 0
    for owner, count in zip("abcdefgh" * 2, rng.integers(1, 14, 16), strict=True):
        batcher.add(owner, numbered(int(count), start))
        expected += [(owner, number) for number in range(start, start + int(count))]
        start += int(count)
    batcher.flush()
    assert found == expected
    assert batcher.encoded == start


def test_a_slow_batch_holds_up_neither_the_others_nor_their_buffers() -> None:
    def finish(pending: list[Pending]) -> None:
        for one in pending if len(pending) == 1 else pending[1:]:
            one.is_done = True

    found: list[int] = []
    encoder: Any = Encoder(2, finish)
    batcher: Batcher[None] = Batcher(encoder, lambda _, some: found.extend(some[:, 0].astype(int)))
    batcher.add(None, numbered(10 * BATCH))
    assert len(encoder.started) == 10
    assert [one.is_done for one in encoder.started] == [False] + [True] * 9
    assert found == []
    batcher.flush()
    assert found == list(range(10 * BATCH))
