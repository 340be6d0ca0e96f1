"""Sound is decoded in processes: whatever a file does to its decoder costs that file alone, and changes no other."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import wave
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from after_hashing import after_hashing
from audio_files import tone, write_sound
from clap_models import write_tiny_clap
from clipcache.cache import DigestMemo, FeatureCache
from clipcache.cache.common.errors import CacheError, ClipcacheError
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.audio import run as sound_run
from clipcache.extract.audio.clap import SoundEncoder
from clipcache.extract.audio.decoding import WindowsTask
from clipcache.extract.audio.pipeline import EncodedSound, SoundRun
from clipcache.extract.audio.reader import open_sound
from clipcache.extract.audio.run import extract_sounds
from clipcache.extract.audio.weights import find_clap
from clipcache.extract.audio.windows import Samples, Windows, cut_windows, level_db
from clipcache.extract.cluster.work_queue import Known, WorkQueue
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.options import SoundOptions
from clipcache.extract.progress import ProgressReport
from clipcache.extract.video.resize import CLIP_RULE
from clipcache.extract.workers import pool, process
from clipcache.extract.workers.messages import Beat, ImagesTask, PageFull, SoundDone, Task, TaskFailed
from clipcache.extract.workers.process import WorkerProcess
from clipcache.extract.workers.shared_pages import PAGE_SAMPLES, PAGES
from clipcache.extract.workers.sizing import GIB, PARENT_BYTES
from extract_runs import assert_sound, children, is_running, read_failures, wait_until
from PIL import Image

pytest.importorskip("transformers")
pytest.importorskip("soxr")

pytestmark = pytest.mark.usefixtures("one_thread")

SECOND = Windows(1.0, 1.0)
"""Windows of a second, of which a page holds 43."""

NAMES = ["a.wav", "b.wav", "long.wav", "z.wav"]

# Run in a worker before it begins: something happens to it when it has shipped the first page of certain files.
TRAP = """
import fnmatch, os, pathlib, signal, time
import numpy as np
from clipcache.extract.audio.decoding import WindowsTask
carry_out, folder = WindowsTask.carry_out, pathlib.Path({folder!r})

def hang():
    time.sleep(3600)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def exhaust():
    held = []
    try:
        while len(held) < 200:
            held.append(np.ones(32 << 20, np.uint8))
    finally:
        (folder / "held").write_text(str(len(held)))

def meet():
    asked = time.monotonic()
    while len(list(folder.glob("struck*"))) < 2:
        assert time.monotonic() < asked + 60
        time.sleep(0.01)

def trapped(task, ship, beat):
    def strike(samples):
        ship(samples)
        struck = list(folder.glob("struck*"))
        if len(struck) < {times}:
            (folder / f"struck-{{os.getpid()}}").touch()
            {fate}()
    return carry_out(task, strike if fnmatch.fnmatch(task.path.name, {name!r}) else ship, beat)

WindowsTask.carry_out = trapped
"""
_MAIN = "from clipcache.extract.workers.worker import main"


class Watched(WorkerProcess):
    """A worker whose clock runs only when it has been struck: a busy machine may take long to start one."""

    folder: ClassVar[Path]

    @property
    def silent_seconds(self) -> float:
        return super().silent_seconds if (self.folder / f"struck-{self.pid}").exists() else 0.0


@pytest.fixture(scope="session")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clap(tmp_path_factory.mktemp("models") / "tiny-clap")


@pytest.fixture(autouse=True)
def _no_orphans() -> Iterator[None]:
    yield
    assert children(os.getpid()) == []


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 50 s, which is more than a page, and of a few seconds; all at a rate that is resampled."""
    folder = tmp_path_factory.mktemp("library")
    for number, name in enumerate(NAMES):
        seconds = 50 if name == "long.wav" else 3 + number
        noise = 0.2 * np.random.default_rng(number).standard_normal((1, 8_000 * seconds + 100))
        write_sound(folder / name, noise.astype(np.float32), 8_000, "pcm_s16le")
    return folder


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Sets one: `fate` happens to the first so many workers that come to such a file; gives where they leave traces."""

    def set_trap(fate: str, times: int = 99, name: str = "long.wav") -> Path:
        folder = tmp_path / "traces"
        folder.mkdir()
        (folder / "trap.py").write_text(TRAP.format(folder=str(folder), fate=fate, times=times, name=name))
        monkeypatch.setattr(process, "_BOOT", trapped_boot(folder / "trap.py"))
        monkeypatch.setattr(Watched, "folder", folder, raising=False)
        monkeypatch.setattr(pool, "WorkerProcess", Watched)
        return folder

    return set_trap


def trapped_boot(trap_file: Path) -> str:
    assert _MAIN in process._BOOT
    return process._BOOT.replace(_MAIN, f"exec(open({str(trap_file)!r}).read(), {{}}); {_MAIN}")


def options(clap: Path, num_workers: int, **more: Any) -> SoundOptions:
    return SoundOptions(clap, SECOND, device="cpu", dtype="float32", num_workers=num_workers, **more)


def contents(cache_dir: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Features and measures of each entry, by name of the file."""
    found = {}
    for entry in FeatureCache(cache_dir):
        assert entry.complete
        found[entry.video_name] = [np.asarray(entry.features), *(entry.quality[name] for name in sorted(entry.quality))]
    return found


def begins(windows: Sequence[Samples]) -> np.ndarray[Any, Any]:
    """In place of features, which take long: how many windows the batch has, and the first samples of each."""
    return np.array([[len(windows), *window[:511], *[0.0] * (511 - len(window))] for window in windows], np.float32)


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SoundEncoder, "encode", lambda _, windows: begins(windows))


@pytest.fixture(scope="module")
def expected(library: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """What the reader and the stand-in for the model give here, called one after the other."""
    found = {}
    for name in NAMES:
        with open_sound(library / name) as sound:
            windows = list(cut_windows(sound.blocks(), 48_000, 48_000))
        batches = iter(windows)
        features = [begins(batch) for batch in iter(lambda: list(islice(batches, 8)), [])]  # noqa: B023
        durations_ms = np.array([len(window) for window in windows], np.float32) / np.float32(48)
        found[name] = [np.concatenate(features), durations_ms, np.array(list(map(level_db, windows)), np.float32)]
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Equal to the last bit."""
    assert sorted(found) == sorted(set(expected) - set(but))
    for name, arrays in found.items():
        for array, other in zip(arrays, expected[name], strict=True):
            assert np.array_equal(array, other), name


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_workers_change_no_bit(
    num_workers: int, library: Path, clap: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    summary = extract_sounds([library], tmp_path / "cache", options(clap, num_workers))
    assert (summary.extracted, summary.windows) == (4, sum(len(arrays[0]) for arrays in expected.values()))
    assert_same(contents(tmp_path / "cache"), expected)
    assert_sound(tmp_path / "cache")


def test_windows_are_reported(library: Path, clap: Path, tmp_path: Path) -> None:
    reports: list[ProgressReport] = []
    summary = extract_sounds([library], tmp_path / "cache", options(clap, 0), on_progress=reports.append)
    assert (reports[-1].items_done, reports[-1].items_total) == (4, 4)
    assert reports[-1].frames == summary.windows
    assert reports[-1].bytes_done == reports[-1].bytes_total > 0


def test_this_process_decodes_nothing_unless_told_to(
    library: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded in the parent")

    monkeypatch.setattr("clipcache.extract.audio.decoding.open_sound", refuse)
    assert extract_sounds([library], tmp_path / "cache", SoundOptions(clap, device="cpu")).extracted == 4


def test_several_files_are_decoded_at_once(
    trap: Callable[..., Path], library: Path, clap: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    """Each process waits for the other in the middle of its first file."""
    trap("meet", name="*")
    assert extract_sounds([library], tmp_path / "cache", options(clap, 2)).extracted == 4
    assert_same(contents(tmp_path / "cache"), expected)


@pytest.mark.once
@pytest.mark.parametrize("fate", ["kill", "hang", "crash"])
def test_a_file_that_loses_every_worker_fails_alone(
    fate: str, trap: Callable[..., Path], library: Path, clap: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    traces = trap(fate)
    summary = extract_sounds([library], tmp_path / "cache", options(clap, 2, stall_seconds=1.0))
    assert (summary.extracted, summary.failed) == (3, 1)
    assert len(list(traces.glob("struck*"))) == 2  # tried once more, and not for ever
    assert_same(contents(tmp_path / "cache"), expected, but=("long.wav",))
    (sentence,) = summary.failures.values()
    assert {"kill": "killed from outside", "hang": "no frame for 1 s", "crash": "ended by signal 11"}[fate] in sentence
    remembered = [failure["error"] for failure in read_failures(tmp_path / "cache")]
    assert remembered == {"kill": [], "hang": ["DecoderHung"], "crash": ["DecoderCrashed"]}[fate]


@pytest.mark.parametrize("fate", ["kill", "hang"])
def test_a_file_whose_worker_is_lost_is_finished_by_another(
    fate: str, trap: Callable[..., Path], library: Path, clap: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    traces = trap(fate, times=1)
    summary = extract_sounds([library], tmp_path / "cache", options(clap, 1, stall_seconds=1.0))
    assert (summary.extracted, summary.failed) == (4, 0)
    assert len(list(traces.glob("struck*"))) == 1
    assert_same(contents(tmp_path / "cache"), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts what a process allocates")
def test_a_file_that_takes_too_much_memory_fails_alone_and_is_not_remembered(
    trap: Callable[..., Path], library: Path, clap: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    traces = trap("exhaust")
    limit = PARENT_BYTES + GIB // 2
    summary = extract_sounds([library], tmp_path / "cache", options(clap, 1, memory_limit=limit))
    assert (summary.extracted, summary.failed) == (3, 1)
    assert "more memory than it can have" in next(iter(summary.failures.values()))
    assert 0 < int((traces / "held").read_text()) < 16  # of 32 MB each
    assert read_failures(tmp_path / "cache") == []
    assert_same(contents(tmp_path / "cache"), expected, but=("long.wav",))


def ask(path: Path, **how: Any) -> tuple[SoundDone | TaskFailed, int]:
    """What a worker answers to the task, and the most memory that it ever held, in bytes."""
    worker = WorkerProcess(None, "pil", CLIP_RULE, quiet=True, **how)
    try:
        worker.receive()
        worker.start(WindowsTask(path, 480_000, 480_000))
        while isinstance(reply := worker.receive(), Beat | PageFull):
            if isinstance(reply, PageFull):
                worker.free(reply.page)
        status = Path(f"/proc/{worker.pid}/status").read_text()
    finally:
        worker.close(kill=True)
    assert isinstance(reply, SoundDone | TaskFailed)
    return reply, 1024 * int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts what a process allocates")
def test_a_packet_of_a_hundred_megabytes_does_not_take_a_gigabyte(tmp_path: Path) -> None:
    """A block that says that it is so long, in a file that is mostly a hole; it took 1.4 GB."""
    path = write_sound(tmp_path / "a.mkv", tone(1.0, 48_000), 48_000, "pcm_s16le")
    size = 100 << 20
    cluster = bytes.fromhex("1f43b67501ffffffffffffffe78203e8")  # of unknown size, at 1000 ms
    block = b"\xa3" + struct.pack(">Q", 1 << 56 | size + 4) + bytes.fromhex("81000080")
    with path.open("ab") as file:
        file.write(cluster + block)
        file.truncate(file.tell() + size)
    reply, peak = ask(path, memory=300 << 20)
    assert isinstance(reply, TaskFailed)
    assert reply.error == "MemoryError"
    assert peak < 450 << 20


def write_silence(path: Path, seconds: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        for _ in range(seconds):
            file.writeframes(bytes(16_000))
    return path


def test_a_worker_that_nobody_reads_from_waits(tmp_path: Path) -> None:
    """Ten minutes would be fourteen pages."""
    worker = WorkerProcess(None, "pil", CLIP_RULE, quiet=True)
    try:
        worker.receive()
        worker.start(WindowsTask(write_silence(tmp_path / "a.wav", 600), 480_000, 480_000))
        full: list[PageFull] = []
        while worker.connection.poll(60 if len(full) < PAGES else 2):
            reply = worker.receive()
            full += [reply] if isinstance(reply, PageFull) else []
            assert isinstance(reply, PageFull | Beat)
        assert [page.count for page in full] == [4 * 480_000] * PAGES
        assert full[0].count <= PAGE_SAMPLES
        worker.free(full[0].page)
        assert worker.connection.poll(60)
    finally:
        worker.close(kill=True)


class Events:
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.encoded: list[EncodedSound] = []
        self.windows = 0

    def on_open(self, item: HashedItem) -> None:
        pass

    def on_windows(self, item: HashedItem, count: int) -> None:
        self.windows += count

    def on_encoded(self, encoded: EncodedSound) -> None:
        self.encoded.append(encoded)

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        raise AssertionError(sentence)


@pytest.mark.once
@pytest.mark.parametrize("num_workers", [0, 1])
def test_hours_take_no_more_memory_than_minutes(num_workers: int, clap: Path, tmp_path: Path) -> None:
    """A quarter of an hour of silence, 173 MB as samples; the memory that the model takes does not depend on it."""
    path = write_silence(tmp_path / "long.wav", 900)
    encoder = SoundEncoder(find_clap(clap, DigestMemo()), "cpu")
    events = Events()
    queue = WorkQueue(Known([HashedItem(Item(path, "audio"), "", 0)]), Sampling())
    run = SoundRun(queue, encoder, events, Windows(), "float16")
    decoding = pool.WorkerPool(1, None) if num_workers else pool.InProcessPool(None)
    tracemalloc.start()
    try:
        decoding.run(run, lambda _: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        decoding.close()
    assert (len(events.encoded[0].features), events.windows) == (90, 90)
    assert peak < 64 << 20


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_is_interrupted_at_once_while_a_file_hangs(
    number: signal.Signals, code: int, trap: Callable[..., Path], library: Path, clap: Path, tmp_path: Path
) -> None:
    traces = trap("hang")
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from clipcache.extract.workers import process\n"
        f"process._BOOT = {process._BOOT!r}\n"
        "from clipcache.cli import main; main()\n"
    )
    words = ["extract", "--model", "clap", "--weights", clap, "--device", "cpu", "--cache", tmp_path / "cache"]
    words += ["--num-workers", "2", "--audio-window", "1", library]
    run = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: run.poll() is not None or list(traces.glob("struck*")), "a worker hangs")
        workers = children(run.pid)
        assert workers
        asked = time.monotonic()
        os.killpg(run.pid, number)
        _, err = run.communicate(timeout=60)
        assert time.monotonic() - asked < 20  # a worker is silent for a minute before it is killed
    finally:
        run.kill()
    assert run.returncode == code
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert not any(is_running(pid) for pid in workers)
    assert read_failures(tmp_path / "cache") == []


def test_options_of_the_command_line_hold_for_sound(
    library: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from clipcache.cli import cli

    asked: list[Any] = []

    class Noted(pool.WorkerPool):
        def __init__(self, workers: int, *arguments: Any, **how: Any) -> None:
            asked.append((workers, how))
            super().__init__(workers, *arguments, **how)

    monkeypatch.setattr(sound_run, "WorkerPool", Noted)
    words = ["extract", library, "--model", "clap", "--weights", clap, "--device", "cpu", "--cache", tmp_path / "cache"]
    words += ["--num-workers", "3", "--stall-seconds", "77", "--start-seconds", "88", "--limit-memory", "4GB"]
    outcome = CliRunner().invoke(cli, [str(word) for word in words])
    assert outcome.exit_code == 0, outcome.output
    ((workers, how),) = asked
    assert (workers, how["stall_seconds"], how["start_seconds"], how["quiet"]) == (3, 77.0, 88.0, True)
    assert GIB // 4 <= how["memory"] <= (4 * GIB - PARENT_BYTES) // 3
    outcome = CliRunner().invoke(cli, [*(str(word) for word in words[:-1]), "2GB", "--overwrite"])
    assert "the least that works is 2.4GB" in str(outcome.exception)


def test_workers_that_do_not_start_end_the_run_and_blame_no_file(
    library: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_BOOT", "import time; time.sleep(600)")
    with pytest.raises(ClipcacheError, match=r"do not start.*--start-seconds"):
        extract_sounds([library], tmp_path / "cache", options(clap, 1, start_seconds=0.3))
    assert read_failures(tmp_path / "cache") == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_goes_wrong_in_the_model_is_not_held_against_a_file(
    num_workers: int, library: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(SoundEncoder, "encode", fail)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        extract_sounds([library], tmp_path / "cache", options(clap, num_workers))
    assert read_failures(tmp_path / "cache") == []


@pytest.mark.parametrize("kind", ["pictures", "sound"])
def test_decoding_in_this_process_takes_no_error_of_the_run_for_one_of_the_file(
    kind: str, library: Path, tmp_path: Path
) -> None:
    """A full disk while an entry is written, say, ends the run; the file that was being decoded did nothing."""
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    task: Task = ImagesTask((picture,), (0,)) if kind == "pictures" else WindowsTask(library / "a.wav", 48_000, 48_000)

    class Full:
        tasks: ClassVar = [(None, task)]

        def next_task(self) -> Any:
            return self.tasks.pop() if self.tasks else None

        def on_page(self, job: Any, page: Any) -> None:
            raise CacheError("The disk is full")

        def on_reply(self, job: Any, reply: Any) -> None:
            pytest.fail(f"the file was blamed: {reply}")

    decoding = pool.InProcessPool(16 if kind == "pictures" else None)
    with pytest.raises(CacheError, match="The disk is full"):
        decoding.run(Full(), lambda _: None)


def test_a_file_that_loses_its_sound_while_it_is_read_is_not_remembered_as_mute(
    library: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_files import make_video

    path = Path(shutil.copy(library / "a.wav", tmp_path / "a.wav"))
    mute = make_video(tmp_path / "mute.mp4", frames=3).path
    after_hashing(monkeypatch, lambda: path.write_bytes(mute.read_bytes()))
    summary = extract_sounds([path], tmp_path / "cache", options(clap, 0))
    assert (summary.failed, summary.without_audio) == (1, 0)
    assert "changed while it was read" in next(iter(summary.failures.values()))
    assert read_failures(tmp_path / "cache") == []
