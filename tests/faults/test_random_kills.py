"""Runs that are killed, stopped and doubled at random moments: nothing is lost, doubled or half, and no bit differs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extract_runs import (
    assert_sound,
    children,
    extract_words,
    features_of,
    is_running,
    read_failures,
    start_extract,
    wait_until,
)
from video_files import make_video

pytestmark = [pytest.mark.fault, pytest.mark.once]

KILLS = 1
"""Of each victim in a round; CI does one round, CLIPCACHE_FAULT_ROUNDS more."""
CLOSED_GOP = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "0", "flags": "+cgop"}
FRAMES = {"long.mp4": 300, "a.mp4": 40, "b.mkv": 61, "c.ts": 30, "d.mp4": 25}

SHORT_SPANS = """
from clipcache.extract import unfinished; unfinished.SAVE_AFTER_S = 0.0
from clipcache.extract.video import segments; segments.MIN_SEGMENT_FRAMES = 20
from clipcache.extract.video import spans; spans.SPAN_FRAMES = 40
"""
"""So that a kill also meets videos of which some spans are kept."""

Run = subprocess.Popen[str]
Features = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for name, frames in FRAMES.items():
        make_video(folder / name, frames=frames, size=(64, 48), options=CLOSED_GOP)
    return folder


@pytest.fixture(scope="module")
def undisturbed(library: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, float]:
    """Features of a run that nothing befalls, and how many seconds it decodes and encodes."""
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    process = start_extract(*extract_words(cache_dir, tiny_weights), "--num-workers", "2", library)
    wait_until(lambda: children(process.pid), "workers")
    started = time.monotonic()
    assert process.communicate()
    assert process.returncode == 0
    return features_of(cache_dir), time.monotonic() - started


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Runs that are started; a failed test leaves none behind."""
    started: list[Run] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start(runs: list[Run], cache_dir: Path, weights: Path, library: Path) -> Run:
    """Start a run and wait for its workers, or for its end."""
    words = extract_words(cache_dir, weights)
    process = start_extract(*words, "--num-workers", "2", library, prelude=SHORT_SPANS)
    runs.append(process)
    wait_until(lambda: process.poll() is not None or children(process.pid), "workers")
    return process


def kill(process: Run, victim: str, rng: random.Random) -> bool:
    """SIGKILL to one or all; gives whether there was anything to kill."""
    workers = children(process.pid)
    if process.poll() is not None or not workers:
        return False
    try:
        if victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid if victim == "parent" else rng.choice(workers), signal.SIGKILL)
    except ProcessLookupError:
        return False
    if victim != "worker":
        process.communicate()
        wait_until(lambda: not any(map(is_running, workers)), "workers that end with their parent")
    return True


def assert_as_undisturbed(cache_dir: Path, expected: Features) -> None:
    found = features_of(cache_dir)
    assert found.keys() == expected.keys()
    for name, features in expected.items():
        np.testing.assert_array_equal(found[name], features, err_msg=name)
    assert read_failures(cache_dir) == []
    assert_sound(cache_dir)
    assert [*cache_dir.glob("*/.unfinished/*"), *cache_dir.glob("*/.claims")] == []


@pytest.mark.parametrize("victim", ["parent", "group", "worker"])
def test_random_kills(
    victim: str,
    library: Path,
    undisturbed: tuple[Features, float],
    tiny_weights: Path,
    tmp_path: Path,
    runs: list[Run],
    rounds: int,
    tried: Counter[str],
) -> None:
    expected, seconds = undisturbed
    rng = random.Random(f"{victim} {rounds}")
    cache_dir, caches = tmp_path / "cache", 0
    for _ in range(KILLS * rounds):
        process = start(runs, cache_dir, tiny_weights, library)
        time.sleep(rng.uniform(0, 0.6 * seconds))  # the rest of it is spent on leaving
        tried[f"SIGKILLs of the {victim}"] += kill(process, victim, rng)
        said = process.communicate() if victim == "worker" else None
        if process.returncode == 0:
            assert_as_undisturbed(cache_dir, expected)
            caches += 1
            cache_dir = tmp_path / f"cache {caches}"
        elif said is not None:  # a worker is lost: at worst its video is tried again next time
            assert process.returncode == 1, said
            assert "The decoder was killed from outside" in said[1]
    process = start(runs, cache_dir, tiny_weights, library)
    assert process.communicate()
    assert process.returncode == 0
    assert_as_undisturbed(cache_dir, expected)


def test_random_pairs_of_writers(
    library: Path,
    undisturbed: tuple[Features, float],
    tiny_weights: Path,
    tmp_path: Path,
    runs: list[Run],
    rounds: int,
    tried: Counter[str],
) -> None:
    """Two runs over the same videos into one cache; one is killed, or stopped for a while."""
    rng = random.Random(rounds)
    for number in range(rounds):
        cache_dir = tmp_path / f"cache {number}"
        pair = [start(runs, cache_dir, tiny_weights, library) for _ in range(2)]
        time.sleep(rng.uniform(0, undisturbed[1]))
        if number % 2 == 0:
            kill(pair[0], "group", rng)
        else:
            os.killpg(pair[0].pid, signal.SIGSTOP)
            time.sleep(1)
            os.killpg(pair[0].pid, signal.SIGCONT)
            pair[0].communicate()
            assert pair[0].returncode == 0
        assert pair[1].communicate()
        assert pair[1].returncode == 0
        again = start(runs, cache_dir, tiny_weights, library)
        assert again.communicate()
        assert_as_undisturbed(cache_dir, undisturbed[0])
        tried["pairs of writers, one killed or stopped"] += 1
