"""Let something happen to the files of a run between their hashing and their decoding."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from clipcache.extract.hashing import HashStream


def after_hashing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Call `change` when all files of a run are hashed and none is taken yet."""
    enter = HashStream.__enter__

    def hash_everything(stream: HashStream) -> HashStream:
        enter(stream)
        while stream._outstanding and stream._error is None:
            time.sleep(0.01)
        change()
        return stream

    monkeypatch.setattr(HashStream, "__enter__", hash_everything)
