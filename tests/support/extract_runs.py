"""Running `clipcache extract` as a person does, in this process or, where that is the point, in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache import cli
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.verify import verify

PATIENCE_S = 60.0
"""How long a condition may take to come true before a test gives up; far more than it takes."""


@dataclass(frozen=True)
class Outcome:
    """What a person sees of a run: the exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr that clipcache wrote."""
        return [line for line in self.err.splitlines() if line.startswith("clipcache: ")]


class Cli:
    """`clipcache extract` in this process, with tiny weights and one cache."""

    def __init__(
        self, cache_dir: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.cache_dir = cache_dir
        self._weights = weights
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str | os.PathLike[str], model: str = "tiny") -> Outcome:
        """Run it, decoding in this process unless told otherwise; last words win, as on a command line."""
        words = [*extract_words(self.cache_dir, self._weights, model), "--num-workers", "0"]
        self._monkeypatch.setattr(sys, "argv", ["clipcache", *words, *map(os.fspath, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err
        return Outcome(int(leaving.value.code or 0), said.out, said.err)

    @property
    def entries(self) -> dict[str, Entry]:
        """By name of the video."""
        return {entry.video_name: entry for entry in FeatureCache(self.cache_dir)} if self.cache_dir.is_dir() else {}

    @property
    def failures(self) -> list[dict[str, str]]:
        """The lines of `failed.jsonl`."""
        return read_failures(self.cache_dir)


def extract_words(cache_dir: Path, weights: Path, model: str = "tiny") -> list[str]:
    """Arguments of a run on the CPU with weights of ours."""
    words = ["extract", "--cache", str(cache_dir), "--model", model, "--weights", str(weights)]
    return [*words, "--device", "cpu", "--precision", "fp32"]


def read_failures(cache_dir: Path) -> list[dict[str, str]]:
    """The lines of `failed.jsonl`, oldest first; none where there is no such file."""
    log = cache_dir / "failed.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def start_extract(*words: str | os.PathLike[str], prelude: str = "", **how: Any) -> subprocess.Popen[str]:
    """Start the program in a process of its own, and group, as a terminal would; `prelude` is code to run first."""
    # Tests that run in the background ignore SIGINT, and so do their children unless told otherwise.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{listen}\n{prelude}\nfrom clipcache.cli import main; main()"
    command = [sys.executable, "-c", code, *map(os.fspath, words)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # One thread: the tiny model gains nothing from more, and waits for them wherever cores are few and busy.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, errors="replace", start_new_session=True, env=env, **pipes, **how)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until `condition` gives something true, and give that."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain: {what}"
        time.sleep(0.01)
    return found


def children(pid: int) -> list[int]:
    """Process ids of the living children of a process."""
    with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,stat="], stdout=subprocess.PIPE, text=True) as ps:
        rows = [line.split() for line in ps.communicate()[0].splitlines()]
    found = [int(child) for child, parent, state in rows if int(parent) == pid and not state.startswith("Z")]
    return [child for child in found if child != ps.pid]


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def temporaries(cache_dir: Path) -> list[Path]:
    """Files of the cache that are neither entries nor its log."""
    return [
        path for path in cache_dir.rglob("*") if path.is_file() and (path.name.startswith(".") or "tmp" in path.name)
    ]


def assert_sound(cache_dir: Path) -> None:
    """No bad entry, and nothing half."""
    assert [finding for finding in verify(FeatureCache(cache_dir)) if finding.problem] == []
    assert temporaries(cache_dir) == []


def features_of(cache_dir: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Features of every entry, by name of the video."""
    return {entry.video_name: np.asarray(entry.features) for entry in FeatureCache(cache_dir)}
