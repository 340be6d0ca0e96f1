"""Workers that start slowly or die while they start, a run that is stopped and continued, signals, orphans."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from clipcache.cache.common.errors import ClipcacheError
from clipcache.extract import ExtractOptions, extract, interrupts
from clipcache.extract.workers import pool, process
from video_files import make_video

pytestmark = pytest.mark.fault

BOOT = process._BOOT


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "a.mp4", frames=5).path


def options(weights: Path, **more: Any) -> ExtractOptions:
    return ExtractOptions(model="tiny", weights=weights, device="cpu", num_workers=1, **more)


def test_a_slow_start_is_no_stall(
    video: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_BOOT", f"import time; time.sleep(4); {BOOT}")
    summary = extract([video], tmp_path / "features", options(tiny_weights, stall_seconds=2.5))
    assert (summary.extracted, summary.failed) == (1, 0)


def test_a_start_that_takes_too_long_names_the_option(
    video: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_BOOT", "import time; time.sleep(600)")
    with pytest.raises(ClipcacheError, match=r"do not start.*--start-seconds"):
        extract([video], tmp_path / "features", options(tiny_weights, start_seconds=0.5))


def test_a_worker_lost_at_its_start_is_replaced(
    video: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does that kills for lack of memory, twice in a row."""
    marker = tmp_path / "starts"
    dies = (
        f"import os, pathlib; m = pathlib.Path({str(marker)!r}); "
        "m.write_text((m.read_text() if m.exists() else '') + '.'); "
        "len(m.read_text()) > 2 or os.kill(os.getpid(), 9); "
    )
    monkeypatch.setattr(process, "_BOOT", dies + BOOT)
    summary = extract([video], tmp_path / "features", options(tiny_weights))
    assert (summary.extracted, summary.failed) == (1, 0)
    assert len(marker.read_text()) == 3


def test_a_process_that_was_stopped_is_told_from_one_that_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, cpu = [0.0, 65.0, 130.0, 131.0], [0.0, 0.1, 60.0, 60.1]
    monkeypatch.setattr(pool.time, "monotonic", lambda: wall.pop(0))
    monkeypatch.setattr(pool.time, "process_time", lambda: cpu.pop(0))
    clock = pool._OwnClock()
    assert [clock.was_stopped() for _ in range(3)] == [True, False, False]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_run_that_is_stopped_and_continued_goes_on(video: Path, tiny_weights: Path, tmp_path: Path) -> None:
    """The whole group stops, as by Ctrl-Z, for longer than the limit for stalls."""
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time\n"
        "from clipcache.extract import pipeline, ExtractOptions, extract\n"
        "add = pipeline.Batcher.add\n"
        "def slowly(self, *arguments):\n"
        "    print('decoding', flush=True); time.sleep(1); return add(self, *arguments)\n"
        "pipeline.Batcher.add = slowly\n"
        f"how = dict(model='tiny', weights={str(tiny_weights)!r}, device='cpu', num_workers=1, stall_seconds=6)\n"
        "options = ExtractOptions(**how)\n"
        f"print(extract([{str(video)!r}], {str(tmp_path / 'features')!r}, options).extracted, flush=True)\n"
    )
    run = subprocess.Popen([sys.executable, str(slow)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "decoding\n"
    os.killpg(run.pid, signal.SIGSTOP)
    time.sleep(8)
    os.killpg(run.pid, signal.SIGCONT)
    out, _ = run.communicate(timeout=120)
    assert out.splitlines()[-1] == "1"


def test_a_signal_whose_exception_is_lost_ends_the_run_all_the_same() -> None:
    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    seen: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, seen.append
    try:
        with pytest.raises(KeyboardInterrupt) as caught, interrupts.noticed():  # noqa: PT012 - all of it may raise
            Finalised()
            gc.collect()
            seen.append("the run goes on")
            interrupts.check()
            pytest.fail("it went on for good")
    finally:
        sys.unraisablehook = hook
    assert caught.value.args == (signal.SIGINT,)
    assert len(seen) >= 2  # the exception really was lost
    interrupts.check()  # nothing is left over


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's end")
def test_workers_end_with_a_parent_that_is_killed(video: Path, tiny_weights: Path, tmp_path: Path) -> None:
    program = (
        "import os, time\n"
        "from clipcache.extract.workers.process import WorkerProcess\n"
        "from clipcache.extract.video.resize import CLIP_RULE\n"
        "worker = WorkerProcess(224, 'pil', CLIP_RULE, quiet=True)\n"
        "worker.receive()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    killed = time.monotonic()
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() - killed < 0.5
        time.sleep(0.01)
