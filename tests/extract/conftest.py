"""What tests of extraction share: the command in this process, and one thread for the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from extract_runs import Cli


@pytest.fixture
def clipcache(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """`clipcache extract` with tiny weights and a cache of its own."""
    return Cli(tmp_path / "cache", tiny_weights, monkeypatch, capsys)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The tiny model gains nothing from more threads, and waits for them wherever cores are few and busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
