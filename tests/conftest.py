"""Fixtures for every test: where real data lie, tiny weights, and a user folder of its own for each test."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from demo_library import DemoLibrary

DATA_VARIABLE = "CLIPCACHE_TEST_DATA"
ROUNDS_VARIABLE = "CLIPCACHE_FAULT_ROUNDS"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "allow_error_logs: the test may emit log records of level ERROR")
    config.addinivalue_line("markers", "fault: harm at random; CLIPCACHE_FAULT_ROUNDS=20 does twenty times as much")
    config.addinivalue_line("markers", "once: long, and the same from the wheel: CI runs it from the checkout alone")


TRIED = pytest.StashKey[Counter[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How much harm was tried; a trial that did not end as it should failed its test."""
    for kind, count in sorted(config.stash.get(TRIED, Counter()).items()):
        terminalreporter.write_line(f"tried: {count} {kind}")


@pytest.fixture(scope="session")
def tried(request: pytest.FixtureRequest) -> Counter[str]:
    """Where tests count what they did, by kind; printed at the end."""
    return request.config.stash.setdefault(TRIED, Counter())


def _isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let neither the caller's settings nor the caller's memo of digests reach a test."""
    for name in list(os.environ):
        if name.startswith("CLIPCACHE_") and name not in (DATA_VARIABLE, ROUNDS_VARIABLE):
            patch.delenv(name)
    patch.setenv("XDG_CACHE_HOME", str(folder))
    patch.setenv("CLIPCACHE_MEMO", str(folder / "digests.sqlite3"))


@pytest.fixture(scope="session", autouse=True)
def _isolated_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For session-scoped fixtures, which run outside any single test."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("user-cache"))
        yield


@pytest.fixture(autouse=True)
def user_cache(
    _isolated_session: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The test's own user cache folder, empty; `CLIPCACHE_*` variables are unset."""
    folder = tmp_path_factory.mktemp("user-cache")
    _isolate(monkeypatch, folder)
    return folder


@pytest.fixture(autouse=True)
def _no_error_logs(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An ERROR in the log of a test that passed is a failure nobody looked at."""
    yield
    if request.node.get_closest_marker("allow_error_logs"):
        return
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    errors = [record for record in records if record.levelno >= logging.ERROR]
    if errors:
        pytest.fail("logged as ERROR: " + "; ".join(f"{e.name}: {e.getMessage()}" for e in errors))


@pytest.fixture(scope="session")
def rounds() -> int:
    """How many times the usual number of random trials are made."""
    return int(os.environ.get(ROUNDS_VARIABLE, "1"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real videos and reference features, outside the repository; skips without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get(DATA_VARIABLE) or default)
    if not (folder / "videos").is_dir():
        pytest.skip(f"no real test data at {folder}; set {DATA_VARIABLE} to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random ViT in OpenAI's layout, 512 features, 224 pixels, as .safetensors; see `models.py`."""
    from tiny_models import write_tiny_weights

    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def synthetic_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    """Give the `VideoTruth` of a case of `media.SYNTHETIC` by name, building it once a session."""
    from media import SYNTHETIC, VideoTruth, has_encoder

    cases = {case.name: case for case in SYNTHETIC}
    built: dict[str, VideoTruth] = {}

    def build(name: str) -> VideoTruth:
        if name not in built:
            if not has_encoder(cases[name].encoder):
                pytest.skip(f"this PyAV has no encoder {cases[name].encoder}")
            built[name] = cases[name].build(tmp_path_factory.mktemp(name))
        return built[name]

    return build


@pytest.fixture(scope="session")
def demo_library(tmp_path_factory: pytest.TempPathFactory, _isolated_session: None) -> DemoLibrary:
    """The demo library, extracted with the demo model; made once a session."""
    from clipcache.demo.library import write_library
    from clipcache.extract import ExtractOptions, extract
    from demo_library import DemoLibrary

    folder = tmp_path_factory.mktemp("demo")
    truth = write_library(folder / "videos")
    summary = extract([folder / "videos"], folder / "features", ExtractOptions(model="demo"))
    assert (summary.extracted, summary.failed, summary.partial) == (6, 0, 0)
    return DemoLibrary(folder / "videos", folder / "features", tuple(truth))
