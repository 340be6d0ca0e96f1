"""What tests of inputs elsewhere share: some videos, their features as files of this disk, a web server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clipcache.extract import Summary, extract
from clipcache.extract.remote import blobs
from extract_runs import features_of
from remote_library import Library, Run, options
from video_files import make_video
from web_server import WebServer, web_server


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(blobs, "PAUSE_S", 0.0)


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Library:
    folder = tmp_path_factory.mktemp("library")
    for number in range(4):
        make_video(folder / f"clip{number}.mp4", frames=6 + number, size=(64 + 16 * number, 64))
    extract([folder], folder / "cache", options(tiny_weights))
    videos = {path.name: path.read_bytes() for path in sorted(folder.glob("*.mp4"))}
    return Library(videos, features_of(folder / "cache"))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the runs of a test keep their copies; the folder is there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path, tiny_weights: Path, scratch: Path) -> Run:
    """Extract inputs into `tmp_path / "cache"` or another, with options; no copy is left."""

    def carry_out(*inputs: str | Path, cache: str = "cache", **more: Any) -> Summary:
        summary = extract(inputs, tmp_path / cache, options(tiny_weights, scratch=scratch, **more))
        assert list(scratch.iterdir()) == []
        return summary

    return carry_out


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as one:
        yield one
