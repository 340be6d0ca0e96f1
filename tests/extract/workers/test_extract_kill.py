"""Runs under violence (killed workers, hung decoders, killed runs, signals, rivals), and run after run on one cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.format.sampling import Sampling
from clipcache.extract import ExtractOptions, engine, extract
from clipcache.extract.workers import pool
from clipcache.extract.workers.messages import IndexTask, SpanTask, Task
from clipcache.extract.workers.process import WorkerProcess
from clipcache.extract.workers.shared_pages import PAGES, SharedPages
from clipcache.extract.workers.worker import _Mailbox
from extract_runs import (
    Cli,
    assert_sound,
    children,
    extract_words,
    features_of,
    is_running,
    start_extract,
    temporaries,
    wait_until,
)
from media import CLOSED_GOP
from PIL import Image
from video_files import make_video

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("one_thread")]

# Frames of each video: one spans several pages of shared memory (55 pictures) and several segments (96 frames).
LIBRARY = {"long.mp4": 200, "a.mp4": 20, "b.mp4": 31, "c.mp4": 7}
MANY = 10
Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for name, frames in LIBRARY.items():
        make_video(folder / name, frames=frames, size=(64, 48), options=CLOSED_GOP)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough videos that a run can be met in its middle."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        make_video(folder / f"{number}.mp4", frames=100 + number, size=(64, 48), options=CLOSED_GOP)
    return folder


@pytest.fixture(scope="module")
def undisturbed(library: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Features of the library as a run in one process gives them."""
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    extract([library], cache_dir, options(tiny_weights, num_workers=0))
    return features_of(cache_dir)


def options(weights: Path, **more: Any) -> ExtractOptions:
    return ExtractOptions(model="tiny", weights=weights, device="cpu", precision="fp32", **more)


def assert_same_features(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal to the last bit, however frames shared batches; no two frames are alike."""
    assert sorted(found) == sorted(expected)
    for name, features in expected.items():
        assert np.abs(np.diff(features.astype(np.float64), axis=0)).max(axis=1).min() > 0.02
        np.testing.assert_array_equal(found[name], features)


# --- workers --------------------------------------------------------------------------------------------


class Doomed(WorkerProcess):
    """A worker to which something happens when it has shown its first page, or is given its first task."""

    happens: ClassVar[Callable[[Doomed], None]]
    at_page: ClassVar[Callable[[Path], bool]] = staticmethod(lambda path: False)
    at_index: ClassVar[Callable[[Path], bool]] = staticmethod(lambda path: False)
    lost: ClassVar[list[int]] = []
    stopped = False

    def start(self, task: Task) -> None:
        super().start(task)
        if isinstance(task, IndexTask) and Doomed.at_index(task.path):
            self._strike()

    def page(self, number: int, count: int) -> npt.NDArray[np.uint8]:
        pictures = super().page(number, count).copy()
        task: Any = self.task
        if Doomed.at_page(task.path):
            self._strike()
        return pictures

    @property
    def silent_seconds(self) -> float:
        return 1e9 if self.stopped else super().silent_seconds

    def _strike(self) -> None:
        if self.pid not in Doomed.lost:  # it may have sent a second page before the first was looked at
            Doomed.lost.append(self.pid)
            type(self).happens(self)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """A process that does nothing and closes nothing, as one that hangs; the test does not wait a minute for it."""
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped = True


@pytest.fixture
def doomed(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Doomed]]:
    monkeypatch.setattr(pool, "WorkerProcess", Doomed)
    monkeypatch.setattr(Doomed, "lost", [])
    monkeypatch.setattr(Doomed, "happens", Doomed.kill, raising=False)
    yield Doomed
    assert [pid for pid in Doomed.lost if is_running(pid)] == []
    assert children(os.getpid()) == []


def once(name: str) -> Callable[[Path], bool]:
    left = [name]
    return lambda path: path.name in left and not left.remove(path.name)


def always(name: str) -> Callable[[Path], bool]:
    return lambda path: path.name == name


@pytest.mark.parametrize(("fate", "moment"), [("kill", "at_page"), ("stop", "at_page"), ("kill", "at_index")])
def test_video_of_a_lost_worker_is_finished_by_another(
    fate: str,
    moment: str,
    doomed: type[Doomed],
    library: Path,
    tiny_weights: Path,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doomed, "happens", getattr(doomed, fate))
    monkeypatch.setattr(doomed, moment, staticmethod(once("long.mp4")))
    summary = extract([library], tmp_path / "cache", options(tiny_weights, num_workers=2))
    assert len(doomed.lost) == 1
    assert (summary.extracted, summary.partial, summary.failed) == (len(LIBRARY), 0, 0)
    assert summary.frames == sum(LIBRARY.values())
    entries = {entry.video_name: entry for entry in FeatureCache(tmp_path / "cache")}
    assert {name: (len(entry), entry.complete) for name, entry in entries.items()} == {
        name: (frames, True) for name, frames in LIBRARY.items()
    }
    assert_same_features(features_of(tmp_path / "cache"), undisturbed)
    assert_sound(tmp_path / "cache")


@pytest.mark.parametrize(("fate", "word"), [("kill", "killed from outside"), ("stop", "hung")])
def test_video_that_loses_every_worker_fails_alone(
    fate: str,
    word: str,
    doomed: type[Doomed],
    library: Path,
    clipcache: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doomed, "happens", getattr(doomed, fate))
    monkeypatch.setattr(doomed, "at_page", staticmethod(always("long.mp4")))
    outcome = clipcache(library, "--num-workers", "2")
    assert outcome.code == 1
    assert len(doomed.lost) == 2  # tried once more, and not for ever
    assert len(outcome.complaints) == 1
    assert "long.mp4" in outcome.complaints[0]
    assert word in outcome.complaints[0]
    assert sorted(clipcache.entries) == sorted(set(LIBRARY) - {"long.mp4"})
    monkeypatch.setattr(doomed, "at_page", staticmethod(always("nothing")))
    if fate == "kill":  # whoever killed it, it says nothing of the video, which is tried again next time
        assert clipcache.failures == []
        outcome = clipcache(library)
    else:
        assert [failure["error"] for failure in clipcache.failures] == ["DecoderHung"]
        assert clipcache(library).code == 1  # it failed before
        outcome = clipcache(library, "--retry-failed")
    assert (outcome.code, clipcache.failures) == (0, [])
    assert len(clipcache.entries["long.mp4"]) == LIBRARY["long.mp4"]


HANGING_DECORD = """
import pathlib, time
class DECORDError(Exception): pass
class DECORDLimitReachedError(Exception): pass
class logging:
    QUIET = 0
    @staticmethod
    def set_level(level): pass
class VideoReader:
    def __init__(self, *arguments, **named): pass
    def next(self):
        pathlib.Path(__file__).with_name("hangs").touch()
        time.sleep(3600)
"""


class Watched(WorkerProcess):
    """A worker whose clock runs only while the decoder hangs: a busy machine may take long to start one."""

    marker: ClassVar[Path]

    @property
    def silent_seconds(self) -> float:
        hangs = isinstance(self.task, SpanTask) and self.task.decoder == "decord" and self.marker.exists()
        return super().silent_seconds if hangs else 0.0


def test_decoder_that_hangs_is_killed_and_pyav_takes_over(
    library: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decord is known to hang on some files; workers take their modules from where this process does."""
    (tmp_path / "decord").mkdir()
    (tmp_path / "decord" / "__init__.py").write_text(HANGING_DECORD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Watched, "marker", tmp_path / "decord" / "hangs", raising=False)
    monkeypatch.setattr(pool, "WorkerProcess", Watched)
    summary = extract(
        [library / "a.mp4"],
        tmp_path / "cache",
        options(tiny_weights, num_workers=1, stall_seconds=1.0, decoder="decord"),
    )
    assert Watched.marker.exists()
    assert (summary.extracted, summary.partial, summary.failed) == (1, 0, 0)
    (entry,) = FeatureCache(tmp_path / "cache")
    assert (len(entry), entry.decoder, entry.complete) == (LIBRARY["a.mp4"], "pyav", True)
    assert children(os.getpid()) == []


def test_worker_keeps_its_pages_whatever_the_frames_are(tmp_path: Path) -> None:
    """Each page given up with a frame that does not fit would be missing for ever, and the worker would wait for it."""
    ours, theirs = Pipe()
    with ours, theirs:
        mailbox = _Mailbox(theirs, SharedPages(224))
        for _ in range(2 * PAGES):
            with pytest.raises(ValueError, match="broadcast"):
                mailbox.ship([np.zeros((224, 224, 4), np.uint8)])
        for page in range(PAGES):
            mailbox.ship([np.full((224, 224, 3), page, np.uint8)])
        assert {ours.recv().page for _ in range(PAGES)} == set(range(PAGES))


# --- the run itself -------------------------------------------------------------------------------------


def entry_files(cache_dir: Path) -> list[Path]:
    return sorted(cache_dir.rglob("*.h5"))


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts runs, of which a failed test leaves none behind."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | os.PathLike[str]) -> subprocess.Popen[str]:
        started.append(start_extract(*words))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def start_in_the_middle(
    launch: Launch, cache_dir: Path, weights: Path, folder: Path, when: str = "first entry"
) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a run and wait until it has workers, or has written something; gives its workers too."""
    process = launch(*extract_words(cache_dir, weights), "--num-workers", "2", folder)
    workers = wait_until(lambda: process.poll() is not None or children(process.pid), "workers")
    if when == "first entry":
        wait_until(lambda: process.poll() is not None or entry_files(cache_dir), "an entry")
        workers = children(process.pid)
    assert process.poll() is None, process.communicate()
    return process, workers


def assert_goes_on(clipcache: Cli, folder: Path, count: int) -> None:
    """The next run does what is left and nothing else."""
    kept = {path: path.stat().st_ino for path in entry_files(clipcache.cache_dir)}
    outcome = clipcache(folder)
    assert outcome.code == 0
    assert f"Items: {count - len(kept)} extracted, {len(kept)} cached, 0 partial, 0 failed" in outcome.out
    assert {path: path.stat().st_ino for path in kept} == kept
    assert len(clipcache.entries) == count
    assert_sound(clipcache.cache_dir)


@pytest.mark.parametrize("when", ["first worker", "first entry"])
def test_run_killed_in_its_middle_goes_on_where_it_was(
    when: str, launch: Launch, many: Path, tiny_weights: Path, clipcache: Cli
) -> None:
    process, workers = start_in_the_middle(launch, clipcache.cache_dir, tiny_weights, many, when)
    process.kill()
    process.communicate()
    assert workers
    wait_until(lambda: not any(is_running(pid) for pid in workers), "orphans leave")
    left_behind = clipcache.cache_dir / f"{make_stale(process.pid)}"
    clipcache.cache_dir.mkdir(exist_ok=True)
    left_behind.write_bytes(b"half an entry")
    assert_goes_on(clipcache, many, MANY)
    assert not left_behind.exists()


def make_stale(dead: int) -> str:
    """The name of a temporary that the dead process would have used."""
    from clipcache.cache.common.atomic import temporary_name

    return temporary_name().replace(f"tmp-{os.getpid()}-", f"tmp-{dead}-")


@pytest.mark.parametrize(("number", "code", "whole_group"), [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)])
def test_interrupted_run_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    whole_group: bool,
    launch: Launch,
    many: Path,
    tiny_weights: Path,
    clipcache: Cli,
) -> None:
    process, workers = start_in_the_middle(launch, clipcache.cache_dir, tiny_weights, many)
    if whole_group:  # as a terminal's Ctrl-C, or a service manager
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code
    assert not any(is_running(pid) for pid in workers)
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("Stopped.")]
    words = extract_words(clipcache.cache_dir, tiny_weights)
    assert line.endswith(" ".join(["run the same command again: clipcache", *words, "--num-workers", "2", str(many)]))
    assert out == ""
    assert temporaries(clipcache.cache_dir) == []
    assert clipcache.failures == []
    assert_goes_on(clipcache, many, MANY)


def test_two_runs_at_once_lose_nothing(launch: Launch, many: Path, tiny_weights: Path, clipcache: Cli) -> None:
    words = [*extract_words(clipcache.cache_dir, tiny_weights), "--json", "--num-workers", "1", str(many)]
    rivals = [launch(*words) for _ in range(2)]
    answers = [rival.communicate() for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0], answers
    summaries = [json.loads(out) for out, _ in answers]
    assert all(summary["extracted"] + summary["cached"] == MANY for summary in summaries)
    assert sum(summary["extracted"] for summary in summaries) >= MANY
    assert len(entry_files(clipcache.cache_dir)) == len(clipcache.entries) == MANY
    assert {name: len(entry) for name, entry in clipcache.entries.items()} == {
        f"{number}.mp4": 100 + number for number in range(MANY)
    }
    assert_sound(clipcache.cache_dir)


# --- run after run --------------------------------------------------------------------------------------


@pytest.fixture
def small(library: Path, tmp_path: Path) -> Path:
    """A copy of the short videos."""
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(library / name, tmp_path / "videos")
    return tmp_path / "videos"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """When called: from now on a run that loads a model, and so decodes, is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded, so something is encoded")

    return lambda: monkeypatch.setattr(engine, "FrameEncoder", refuse)


def test_second_run_decodes_nothing_wherever_the_videos_are(
    small: Path, clipcache: Cli, no_model: Callable[[], None]
) -> None:
    assert clipcache(small).code == 0
    written = {path: path.stat().st_mtime_ns for path in entry_files(clipcache.cache_dir)}
    assert len(written) == 3
    no_model()
    assert "0 extracted, 3 cached" in clipcache(small).out
    renamed = small.rename(small.with_name("renamed"))
    (renamed / "a.mp4").rename(renamed / "other.mp4")
    outcome = clipcache(renamed)
    assert (outcome.code, "0 extracted, 3 cached" in outcome.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in entry_files(clipcache.cache_dir)} == written


def test_overwrite_encodes_again_and_replaces(small: Path, clipcache: Cli) -> None:
    clipcache(small)
    before = {path: path.stat().st_ino for path in entry_files(clipcache.cache_dir)}
    outcome = clipcache(small, "--overwrite", "--dtype", "float32")
    assert "3 extracted, 0 cached" in outcome.out
    after = {path: path.stat().st_ino for path in entry_files(clipcache.cache_dir)}
    assert sorted(after) == sorted(before)
    assert all(after[path] != before[path] for path in before)
    assert all(entry.features.dtype == np.float32 for entry in clipcache.entries.values())


@pytest.mark.parametrize("rate", [("--fps", "5"), ("--every", "4")])
def test_sampled_then_whole(rate: tuple[str, str], small: Path, clipcache: Cli, no_model: Callable[[], None]) -> None:
    """At 25 frames/s, 5 frames/s are each fifth: what is asked for, then every frame in its place, then nothing new."""
    step = {"--fps": 5, "--every": 4}[rate[0]]
    outcome = clipcache(small, *rate)
    assert outcome.code == 0
    sampled = clipcache.entries["b.mp4"]
    np.testing.assert_array_equal(sampled.frame_index, np.arange(0, LIBRARY["b.mp4"], step))
    np.testing.assert_allclose(sampled.timestamps_ms, np.arange(0, LIBRARY["b.mp4"], step) * 40.0)
    rows, features = sampled.frame_index, np.asarray(sampled.features)
    assert sampled.complete
    assert "3 extracted" in clipcache(small).out
    assert len(entry_files(clipcache.cache_dir)) == 3
    whole = clipcache.entries["b.mp4"]
    assert len(whole) == LIBRARY["b.mp4"]
    np.testing.assert_allclose(np.asarray(whole.features)[rows], features, rtol=2e-3, atol=2e-3)
    no_model()
    assert "0 extracted, 3 cached" in clipcache(small, *rate).out
    assert "0 extracted, 3 cached" in clipcache(small, "--every", "7").out


def test_lower_rate_is_in_the_higher_one(small: Path, clipcache: Cli, no_model: Callable[[], None]) -> None:
    clipcache(small, "--every", "4")
    assert "3 extracted" in clipcache(small, "--every", "3").out
    no_model()
    assert "0 extracted, 3 cached" in clipcache(small, "--every", "8").out


def test_dry_run_says_and_does_nothing(small: Path, clipcache: Cli, no_model: Callable[[], None]) -> None:
    no_model()
    outcome = clipcache(small, "--dry-run")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "3 extract"
    assert not clipcache.cache_dir.exists()


def test_dry_run_as_json_names_each_action(small: Path, clipcache: Cli, tmp_path: Path) -> None:
    clipcache(small / "a.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    clipcache(tmp_path / "bad.mp4")
    shutil.copy(small / "a.mp4", small / "z.mp4")
    shutil.copy(small / "b.mp4", small / "y.mp4")
    outcome = clipcache(small, tmp_path / "bad.mp4", tmp_path / "nowhere.mp4", "--dry-run", "--json")
    actions = {Path(row["path"]).name: row["action"] for row in json.loads(outcome.out)}
    assert actions == {
        "a.mp4": "cached",
        "b.mp4": "extract",
        "c.mp4": "extract",
        "y.mp4": "duplicate",
        "z.mp4": "duplicate",
        "bad.mp4": "failed before",
        "nowhere.mp4": "unreadable",
    }
    assert list(clipcache.entries) == ["a.mp4"]


def test_json_summary_is_all_of_stdout(small: Path, clipcache: Cli) -> None:
    shutil.copy(small / "a.mp4", small / "z.mp4")
    summary = json.loads(clipcache(small, "--json").out)
    frames = sum(LIBRARY[name] for name in ("a.mp4", "b.mp4", "c.mp4"))
    assert (summary["extracted"], summary["cached"], summary["frames"], summary["encoded"]) == (3, 1, frames, frames)
    assert (summary["partial"], summary["failed"], summary["failed_before"], summary["failures"]) == (0, 0, 0, {})
    assert summary["seconds"] > 0
    assert summary["frames_per_second"] == pytest.approx(frames / summary["seconds"], abs=1e-2)


def test_the_same_file_by_many_ways_is_one_item(small: Path, clipcache: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (small / "link.mp4").symlink_to("a.mp4")
    monkeypatch.chdir(small)
    summary = json.loads(clipcache(small, small / "a.mp4", "./a.mp4", "../videos/a.mp4", "link.mp4", "--json").out)
    assert (summary["extracted"], summary["cached"]) == (3, 0)


def test_image_folders_and_images(small: Path, clipcache: Cli, tmp_path: Path, no_model: Callable[[], None]) -> None:
    burst = tmp_path / "burst"
    burst.mkdir()
    names = ["shot1.png", "shot2.jpg", "shot10.png"]
    for shade, name in zip((10, 120, 250), names, strict=True):
        Image.new("RGB", (50, 40), (shade, shade, 0)).save(burst / name)
    (burst / "notes.txt").write_text("no picture")
    Image.new("L", (30, 60), 77).save(tmp_path / "single.webp")
    outcome = clipcache(burst, tmp_path / "single.webp", "--num-workers", "1", "--fps", "1")
    assert outcome.code == 0
    entries = clipcache.entries
    assert entries["burst"].frame_names == names
    assert (entries["burst"].source_kind, len(entries["burst"]), entries["burst"].fps) == ("image-folder", 3, 0.0)
    assert list(entries["burst"].timestamps_ms) == [0.0, 0.0, 0.0]
    assert (entries["single.webp"].source_kind, len(entries["single.webp"])) == ("image", 1)
    assert (entries["single.webp"].width, entries["single.webp"].height) == (30, 60)
    assert entries["single.webp"].frame_names == ["single.webp"]
    no_model()
    moved = burst.rename(tmp_path / "moved")
    assert "0 extracted, 2 cached" in clipcache(moved, tmp_path / "single.webp").out
    assert "0 extracted, 2 cached" in clipcache(moved, tmp_path / "single.webp", "--fps", "3").out


def test_folder_is_searched_for_videos_and_image_folders(small: Path, clipcache: Cli) -> None:
    (small / "deep" / "burst").mkdir(parents=True)
    Image.new("RGB", (50, 40)).save(small / "deep" / "burst" / "1.png")
    Image.new("RGB", (50, 40)).save(small / "cover.png")  # beside videos: a cover, not a burst
    shutil.copy(small / "a.mp4", small / "deep" / "no suffix")
    (small / "b.mp4").rename(small / "deep" / "B.MP4")
    (small / "c.mp4").rename(small / "deep" / ".hidden.mp4")
    (small / "script.ts").write_text("const video: string = 'none';\n")
    (small / "notes.txt").write_text("nothing")
    outcome = clipcache(small, "--json")
    summary = json.loads(outcome.out)
    assert (outcome.code, summary["extracted"], summary["cached"]) == (0, 3, 1)
    # Of two copies the one that is hashed first is encoded.
    assert set(clipcache.entries) - {"a.mp4", "no suffix"} == {"B.MP4", "burst"}
    assert len(clipcache.entries) == 3


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("list.txt", "videos/a.mp4\n\n  videos/b c.mp4  \r\nvideos/ü.mp4"),
        ("list.csv", 'label,path\nx,videos/a.mp4\ny,"videos/b c.mp4"\nz,videos/ü.mp4\n'),
        ("list.CSV", "\ufefflabel;x,path\r\nx,videos/a.mp4\r\n,videos/b c.mp4\r\n,videos/ü.mp4\r\n,\r\n"),
        ("list", "path,label\nvideos/a.mp4,x\nvideos/b c.mp4\nvideos/ü.mp4,y\n"),
    ],
    ids=["text", "csv", "bom-and-crlf", "csv-without-suffix"],
)
def test_list_of_inputs(file: str, text: str, small: Path, clipcache: Cli) -> None:
    """Paths beside the list, wherever the run is started."""
    (small / "b.mp4").rename(small / "b c.mp4")
    (small / "c.mp4").rename(small / "ü.mp4")
    (small.parent / file).write_bytes(text.encode())
    outcome = clipcache("--list", small.parent / file)
    assert (outcome.code, sorted(clipcache.entries)) == (0, ["a.mp4", "b c.mp4", "ü.mp4"])


def test_names_that_only_csv_can_list(small: Path, clipcache: Cli) -> None:
    (small / "a.mp4").rename(small / "two\nlines, \u2028 and a comma.mp4")
    (small / "list.csv").write_text('path\n"two\nlines, \u2028 and a comma.mp4"\n')
    outcome = clipcache("--list", small / "list.csv")
    assert (outcome.code, list(clipcache.entries)) == (0, ["two\nlines, \u2028 and a comma.mp4"])


def test_names_with_blanks_around_them_can_be_listed(small: Path, clipcache: Cli) -> None:
    (small / "a.mp4").rename(small / " a.mp4 ")
    (small / "list.txt").write_text(" a.mp4 \nb.mp4   \n")
    assert (clipcache("--list", small / "list.txt").code, sorted(clipcache.entries)) == (0, [" a.mp4 ", "b.mp4"])


def test_globs(small: Path, clipcache: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (small / "deep").mkdir()
    (small / "c.mp4").rename(small / "deep" / "c[1].mp4")
    monkeypatch.chdir(small.parent)
    assert clipcache("videos/[ab].mp4").code == 0
    assert sorted(clipcache.entries) == ["a.mp4", "b.mp4"]
    assert clipcache(small / "**" / "c*.mp4").code == 0
    assert sorted(clipcache.entries) == ["a.mp4", "b.mp4", "c[1].mp4"]
    assert "1 cached" in clipcache("videos/deep/c[1].mp4").out  # a name first, a pattern only if there is none such


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 7), (2, 64)])
def test_workers_and_batches_change_nothing(
    workers: int, batch_size: int, library: Path, tiny_weights: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    extract([library], tmp_path / "cache", options(tiny_weights, num_workers=workers, batch_size=batch_size))
    assert_same_features(features_of(tmp_path / "cache"), undisturbed)


def test_sampling_in_python(small: Path, tiny_weights: Path, tmp_path: Path) -> None:
    summary = extract(
        [small / "b.mp4"], tmp_path / "cache", options(tiny_weights, num_workers=0, sampling=Sampling(fps=1))
    )
    assert summary.frames == 2  # 31 frames at 25 a second
