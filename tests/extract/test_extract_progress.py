"""What is seen of a run of extraction: bars, lines, reports to programs, the log file; and nothing from Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from clipcache.cache import show_progress
from clipcache.extract import ExtractOptions, ProgressReport, extract
from clipcache.extract import progress as module
from clipcache.extract.hashing import HashStream
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.progress import Progress
from extract_runs import Cli
from terminals import Terminal
from video_files import make_video

pytestmark = pytest.mark.usefixtures("one_thread")


class Clock:
    """A steady clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def shown() -> Iterator[None]:
    with show_progress():
        yield


def an_item(name: str, size: int = 1000) -> HashedItem:
    return HashedItem(Item(Path(name), "video"), name * 8, size)


def work(progress: Progress, clock: Clock, *, items: int = 4, seconds: float = 10.0) -> None:
    """Two items of 400 frames are done, one fails, and of one half is; at 100 frames a second."""
    progress.found(items, 1000 * items)
    for name in "ab":
        progress.expect(an_item(name), 400)
        for _ in range(8):
            clock.now += seconds / 20
            progress.advance(an_item(name), 50)
        progress.item(an_item(name), "400 frames")
    progress.item(an_item("c"), "failed: no.", failed=True)
    progress.expect(an_item("d"), 400)
    for _ in range(4):
        clock.now += seconds / 20
        progress.advance(an_item("d"), 50)


def test_reports_say_what_is_done_and_what_is_left(clock: Clock) -> None:
    reports: list[ProgressReport] = []
    progress = Progress("frames", verbose=False, show=False, on_progress=reports.append)
    work(progress, clock)
    progress.hashed(4000)
    clock.now += 0.5
    progress.tick()
    last = reports[-1]
    assert (last.items_done, last.items_total, last.failed, last.frames) == (3, 4, 1, 1000)
    assert (last.bytes_done, last.bytes_total) == (3500, 4000)
    assert last.frames_per_second == pytest.approx(100, rel=0.06)
    assert last.eta_seconds == pytest.approx(2, rel=0.06)
    clock.now += 0.4
    progress.tick()
    assert reports[-1] is last  # about twice a second
    progress.close()
    progress.close()
    assert reports[-1].frames_per_second == pytest.approx(1000 / 10.9)
    assert reports.count(reports[-1]) == 1
    assert len(reports) < 30


def test_a_line_says_all(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, shown: None, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress("frames", verbose=False, show=True)
    progress.found(30, 30 * 10**9)
    progress.hashed(12 * 10**9)
    for number in range(20):
        progress.skip(an_item(str(number), 10**9))
    progress.expect(an_item("a", 10**9), 2000)
    for _ in range(31):
        clock.now += 1
        progress.advance(an_item("a", 10**9), 50)
    (line,) = capsys.readouterr().err.splitlines()
    said = "0 of 10 items, 1,500 frames, 50.8 frames/s, 12.0 of 30.0 GB hashed, at most 6 min left"
    assert line == f"clipcache: {said}"
    progress.hashed(18 * 10**9)
    progress.item(an_item("a", 10**9), "1550 frames")
    progress.item(an_item("b", 10**9), "failed: no.", failed=True)
    clock.now += 30
    progress.tick()
    assert re.search(r"2 of 10 items, 1,550 frames, [\d.]+ frames/s, 1 failed, about", capsys.readouterr().err)
    progress.close()
    assert capsys.readouterr().err == "clipcache: 2 of 10 items, 1,550 frames, 25.4 frames/s, 1 failed, in 61 s\n"
    assert shown is None


def test_of_a_short_run_the_summary_is_enough(clock: Clock, shown: None, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("windows", verbose=True, show=True)
    work(progress, clock)
    progress.resume(an_item("d"), 100)
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "'a': 400 frames",
        "'b': 400 frames",
        "'c': failed: no.",
        "clipcache: 'd': 100 frames are encoded already, by an earlier run",
    ]
    assert shown is None


def test_bars_of_work_and_of_hashing(clock: Clock) -> None:
    with Terminal() as terminal, show_progress():
        progress = Progress("frames", verbose=False, show=True)
        progress.found(4, 4000)
        progress.hashed(1000)
        clock.now += 1
        progress.tick()
        progress.hashed(3000)
        work(progress, clock, items=0)
        progress.say("clipcache: something to know")
        clock.now += 1
        progress.tick()
        progress.close()
    assert re.search(r"Hashing: +25%\|.*\| 1.00k/4.00k \[", terminal.text)
    last = r"\r 88%\|█+.*\| 00:\d\d, about 2 s left, 3 of 4 items, 1,000 frames, [\d.]+ frames/s, 1 failed, 'd'"
    assert re.search(last, terminal.text)
    assert terminal.lines == ["clipcache: something to know"]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Two videos and a file that is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    make_video(folder / "a.mp4", frames=24, size=(64, 48))
    make_video(folder / "b.mp4", frames=36, size=(64, 48))
    (folder / "c.mp4").write_text("not a video")
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_EVERY_S", 0.0)
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_python_gets_reports_and_says_nothing(
    library: Path,
    tmp_path: Path,
    tiny_weights: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = ExtractOptions("tiny", tiny_weights, device="cpu", num_workers=0)
    reports: list[ProgressReport] = []
    summary = extract([library], tmp_path / "cache", options, on_progress=reports.append)
    assert (summary.extracted, summary.failed) == (2, 1)
    assert capfd.readouterr() == ("", "")
    assert [record.levelname for record in caplog.records if "'" in record.message] == ["WARNING"]
    assert "c.mp4" in caplog.text
    assert [report.frames for report in reports] == sorted(report.frames for report in reports)
    last = reports[-1]
    assert (last.items_done, last.items_total, last.failed, last.frames) == (3, 3, 1, 60)
    assert last.bytes_done == last.bytes_total == sum(path.stat().st_size for path in library.iterdir())
    assert last.eta_seconds == 0
    again: list[ProgressReport] = []
    extract([library], tmp_path / "cache", options, on_progress=again.append)
    assert (again[-1].items_total, again[-1].bytes_total) == (0, 0)


def test_what_cannot_be_read_counts_as_done_and_failed(library: Path, tmp_path: Path, tiny_weights: Path) -> None:
    options = ExtractOptions("tiny", tiny_weights, device="cpu", num_workers=0)
    reports: list[ProgressReport] = []
    summary = extract([library, tmp_path / "gone.mp4"], tmp_path / "cache", options, on_progress=reports.append)
    assert (summary.extracted, summary.failed) == (2, 2)
    last = reports[-1]
    assert (last.items_done, last.items_total, last.failed, last.frames) == (4, 4, 2, 60)
    assert last.bytes_done == last.bytes_total


def test_nothing_is_done_before_it_is_found(
    library: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that become known between two looks at a stream."""
    options = ExtractOptions("tiny", tiny_weights, device="cpu", num_workers=0)
    extract([library], tmp_path / "cache", options)
    take = HashStream.take

    def take_all(stream: HashStream) -> list[HashedItem]:
        taken = take(stream)
        while not stream.is_over:
            stream.wait(5.0)
            taken += take(stream)
        return taken

    monkeypatch.setattr(HashStream, "take", take_all)
    reports: list[ProgressReport] = []
    extract([library], tmp_path / "cache", options, on_progress=reports.append)
    assert (reports[-1].items_total, reports[-1].bytes_total) == (0, 0)


@pytest.mark.usefixtures("impatient")
def test_what_on_progress_raises_ends_the_run(library: Path, tmp_path: Path, tiny_weights: Path) -> None:
    told: list[ProgressReport] = []

    def stop(report: ProgressReport) -> None:
        told.append(report)
        raise InterruptedError("enough")

    options = ExtractOptions("tiny", tiny_weights, device="cpu", num_workers=0)
    with pytest.raises(InterruptedError, match="enough"):
        extract([library], tmp_path / "cache", options, on_progress=stop)
    assert len(told) == 1


@pytest.mark.usefixtures("impatient")
def test_the_command_draws_a_bar_and_logs_lines(clipcache: Cli, library: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with Terminal() as terminal:
        outcome = clipcache("--log-file", str(log), library)
    assert outcome.code == 1
    assert re.search(r"\d+%\|█+.*\| 00:\d\d, \d of 3 items, \d+ frames, [\d.]+ frames/s, .*'b.mp4'", terminal.text)
    assert len(terminal.lines) == 1  # the failure
    assert terminal.lines[0].startswith("clipcache: '")
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING) ", line) for line in lines)
    assert [line for line in lines if " WARNING '" in line and "c.mp4" in line]
    assert " INFO 3 of 3 items, 60 frames, " in lines[-1]


@pytest.mark.usefixtures("impatient")
def test_off_a_terminal_lines_are_plain(clipcache: Cli, library: Path) -> None:
    outcome = clipcache("--verbose", library)
    assert "\r" not in outcome.err
    assert re.search(r"^clipcache: 1 of 3 items, \d+ frames, [\d.]+ frames/s(, 1 failed)?$", outcome.err, re.MULTILINE)
    assert re.search(
        r"^clipcache: 3 of 3 items, 60 frames, [\d.]+ frames/s, 1 failed, in \d+ s$", outcome.err, re.MULTILINE
    )
    assert re.search(r"^'.*a.mp4': 24 frames$", outcome.err, re.MULTILINE)
    assert "items, 60 frames" not in outcome.out


def test_a_notebook_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from clipcache.cache.common.messages import has_bars

    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not has_bars()
    with show_progress():
        assert has_bars()
        shell.config = {}  # IPython in a terminal
        assert not has_bars()
