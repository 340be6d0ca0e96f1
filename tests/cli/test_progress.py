"""What is said beside the results: bars on a terminal, lines elsewhere, a log file, and nothing from Python."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache import FeatureCache, show_progress
from clipcache.cache.common import progress
from clipcache.cache.common.errors import UsageError
from clipcache.cache.common.messages import above_bars, log_to, say
from clipcache.cache.common.options import warn
from clipcache.cache.common.progress import Bar, counted, duration
from clipcache.cache.merge import merge
from clipcache.cache.pack import pack
from clipcache.cache.verify import verify
from clipcache.cli import cli, main
from clipcache.score.compare import FrameSelection
from clipcache.score.consistency import measure
from clipcache.score.question import Question, ScoringContext, ask
from clipcache.score.search.scan import scan
from score_caches import FRAMES, X, make_video, put
from terminals import Terminal

LOGGED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING) (.*)")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A cache of three videos, with a vector to score them by beside it."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        put(tmp_path / "cache", make_video(tmp_path / "videos", name))
    np.save(tmp_path / "x.npy", X[None])
    return tmp_path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars appear, and lines are said, at once and each time."""
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)


COMMANDS = {
    "ls": ("Reading", "cache ls --cache cache"),
    "verify": ("Verifying", "cache verify --cache cache"),
    "pack": ("Packing", "cache pack --cache cache out.h5"),
    "merge": ("Reading", "cache merge cache --into merged"),
    "prune": ("Hashing", "cache prune --videos videos --cache cache"),
    "export": ("Exporting", "export --format npz --output exported --cache cache"),
    "score": ("Scoring", "score --cache cache --text-embeddings x.npy"),
    "pairs": ("Scoring", "score --cache cache --pairs pairs.csv"),
    "consistency": ("Measuring", "consistency --cache cache"),
    "targets": ("Finding", "consistency videos --cache cache"),
}


def _never(*_: object, **__: object) -> Any:
    pytest.fail("no model is needed")


def run(words: str) -> None:
    cli.main(words.split(), standalone_mode=False)


@pytest.fixture
def at_library(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(library)
    (library / "pairs.csv").write_text("video,reference_video\nvideos/a.mp4,videos/b.mp4\nvideos/c.mp4,videos/b.mp4\n")
    return library


@pytest.mark.parametrize(("work", "words"), COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("at_library", "impatient")
def test_off_a_terminal_a_line_says_how_far_it_is(work: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(words)
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith(f"clipcache: {work}: ")]
    assert re.search(r": [\d,]+ of [\d,]+ (entries|frames|files|pairs), about 0 s left$", lines[-1])
    assert "\r" not in said.err
    assert work not in said.out


@pytest.mark.parametrize(("work", "words"), COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("at_library", "impatient")
def test_on_a_terminal_a_bar_is_drawn_and_taken_away(work: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal:
        run(words)
    assert re.search(rf"\r{work}: +\d+%\|.*\| [\d.k]+/[\d.k]+ \[", terminal.text)
    assert not [line for line in terminal.lines if work in line]
    assert work not in capsys.readouterr().out


@pytest.mark.parametrize("words", [words for _, words in COMMANDS.values()], ids=COMMANDS)
@pytest.mark.usefixtures("at_library")
def test_what_is_quick_has_no_bar(words: str) -> None:
    with Terminal() as terminal:
        run(words)
    assert not [line for line in terminal.lines if "%" in line]


@pytest.mark.usefixtures("at_library")
@pytest.mark.parametrize("words", ["cache ls --cache cache", "score --cache cache --text-embeddings x.npy"])
def test_what_is_quick_does_not_import_tqdm(words: str) -> None:
    code = "import sys; from clipcache.cli import cli; cli.main(sys.argv[1:], standalone_mode=False)"
    code += "; print('tqdm' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False"


@pytest.mark.usefixtures("impatient")
def test_results_on_the_same_terminal_stay_whole(at_library: Path) -> None:
    words = "score --cache cache --text-embeddings x.npy --per-frame --format json".split()
    with Terminal("stdout", "stderr") as terminal:
        run(" ".join(words))
    assert "Scoring" in terminal.text
    rows = json.loads("".join(line for line in terminal.lines if not line.startswith("clipcache: ")))
    assert len(rows) == 3 * len(FRAMES)
    assert at_library.is_dir()


def test_messages_do_not_break_a_bar(impatient: None) -> None:
    with Terminal() as terminal, show_progress():
        for number in counted(range(3), "Counting", 3, "numbers"):
            warn(f"number {number}")
    assert "Counting" in terminal.text
    assert terminal.lines == ["clipcache: number 0", "clipcache: number 1", "clipcache: number 2"]
    assert impatient is None


def test_unknown_totals_and_bytes_are_said(impatient: None, capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(), Bar("Hashing", None, "B") as bar:
        bar.advance(3_000_000)
    with show_progress(), Bar("Fetching", 4_000_000, "B") as bar:
        bar.advance(1_000_000)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "clipcache: Hashing: 3 MB"
    assert second == "clipcache: Fetching: 1 of 4 MB, about 0 s left"
    assert impatient is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (99, "99 s"), (120, "2 min"), (6000, "1 h 40 min"), (180000, "2 d 2 h")]
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.usefixtures("impatient")
def test_python_says_nothing_by_itself(
    library: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(library / "cache")
    entries = cache.entries()
    bad: list[Any] = []
    entries[0].path.write_bytes(b"not an entry")

    def skip(path: Path, error: Exception) -> None:
        bad.append((path, error))

    context = ScoringContext(library / "cache", None, _never, lambda *_: "", lambda _: None, skip)
    assert len(list(ask(Question(embeddings=[library / "x.npy"]), context).comparisons)) == 2
    assert len(list(cache.iter_entries(skip))) == 2
    assert len(list(measure(cache, FrameSelection(), skip))) == 2
    assert len(list(scan([one.path for one in entries], X[None], FrameSelection(), skip))) == 2
    assert len(list(verify(cache))) == 3
    assert pack(cache, library / "packed.h5", skip).entries == 2
    assert merge([FeatureCache(library / "packed.h5")], library / "merged", skip).written == 2
    warn("Only the logger is told")
    assert bad
    assert capfd.readouterr() == ("", "")
    assert "Only the logger is told" in caplog.messages


def test_show_progress_leaves_the_logger_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("clipcache")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with show_progress():
        with show_progress():  # a command that runs another
            say("once", logging.INFO)
        say("'a.mp4': 3 frames", by_itself=True)
    assert capsys.readouterr().err == "clipcache: once\n'a.mp4': 3 frames\n"
    assert (logger.level, logger.propagate, logger.handlers) == before
    with above_bars():
        pass


def logged(path: Path) -> list[str]:
    """The messages of a log file, each of which has a time."""
    matches = [LOGGED.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(matches)
    return [match[2] for match in matches if match]


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str | os.PathLike[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["clipcache", *map(os.fspath, words)])
    with pytest.raises(SystemExit) as leaving:
        main()
    return int(leaving.value.code or 0)


@pytest.mark.usefixtures("impatient")
def test_a_log_file_has_messages_and_progress(
    at_library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = at_library / "run.log"
    (at_library / "cache").joinpath("ViT-B-32-44444444", "zz.h5").write_bytes(b"")
    score = ["score", "--cache", "cache", "--text-embeddings", "x.npy"]
    with Terminal() as terminal:
        assert run_main(monkeypatch, *score, "--log-file", log) == 0
    assert "Scoring: 1 of 3 entries" not in terminal.text  # there is a bar
    first = logged(log)
    assert any(line.startswith("Scoring: 1 of 3 entries") for line in first)
    assert "No model is named in 'x.npy'; the cache's, ViT-B/32, is assumed." in first
    assert run_main(monkeypatch, "cache", "ls", "--cache", "missing", "--log-file", log) == 1
    assert logged(log)[: len(first)] == first  # added to
    assert logged(log)[-1].startswith("There is no feature cache at 'missing'; ")
    assert "There is no feature cache" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("missing/run.log", "Cannot write the log file 'missing/run.log' (No such file or directory)"),
        (".", "Cannot write the log file '.' (Is a directory)"),
        ("cache/entry.h5", "'cache/entry.h5' exists and is not a text file"),
    ],
)
def test_a_log_file_that_cannot_be_written_is_said_before_work_begins(
    at_library: Path, path: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (at_library / "cache" / "entry.h5").write_bytes(b"\x89HDF\0")
    assert run_main(monkeypatch, "cache", "pack", "--cache", "cache", "out.h5", "--log-file", path) == 2
    assert capsys.readouterr() == ("", f"clipcache: {sentence}; choose another --log-file.\n")
    assert not (at_library / "out.h5").exists()
    assert (at_library / "cache" / "entry.h5").read_bytes() == b"\x89HDF\0"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.usefixtures("at_library", "impatient")
def test_a_full_disk_under_the_log_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "cache", "verify", "--cache", "cache", "--log-file", "/dev/full") == 0
    said = capsys.readouterr()
    assert said.err.count("The log file '/dev/full' cannot be written any more (No space left on device).") == 1
    assert "3 of 3 entries" in said.err


def test_a_log_file_is_refused_as_text_of_another_kind_is_not(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftyp")
    with show_progress(), pytest.raises(UsageError, match="not a text file"):
        log_to(tmp_path / "film.mp4")
    (tmp_path / "notes.txt").write_text("mine\n")
    with show_progress():
        log_to(tmp_path / "notes.txt")
        say("two\nlines")
    first, second = (tmp_path / "notes.txt").read_text().splitlines()
    assert first == "mine"
    assert LOGGED.fullmatch(second)
    assert second.endswith(" WARNING two lines")
