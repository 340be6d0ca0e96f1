"""What the system refuses is one sentence with something to do, and never a request to report a fault."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from cache_entries import put_entry
from clipcache import cli
from clipcache.cache.common.system_errors import explained
from clipcache.cache.entry import Entry
from clipcache.cache.format import read

PROGRAM = [sys.executable, "-c", "from clipcache.cli import main; main()"]
MANY_ROWS = ("consistency", "--jumps", "1000", "--format", "csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messages")
    for number in range(3):
        put_entry(folder / "features", 400, seed=number, video_sha256=f"{number}" * 64)
    return folder


def run(folder: Path, words: Sequence[str], limits: str = "", to: str = "") -> tuple[int, str]:
    """The exit code and what is on stderr, of a command in a shell that sets limits, its stdout going somewhere."""
    script = f'{limits}\n"$@" {to}\n'
    child = subprocess.run(
        ["bash", "-c", script, "bash", *PROGRAM, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return child.returncode, child.stderr


def check_one_sentence(stderr: str, *words: str) -> None:
    (line,) = stderr.splitlines()
    assert line.startswith("clipcache: ")
    assert ";" in line
    assert "please report" not in line
    for word in words:
        assert word in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [("cache", "ls"), MANY_ROWS, ("--help",), ("cache", "ls", "--json")])
def test_a_full_stdout(folder: Path, words: Sequence[str]) -> None:
    code, stderr = run(folder, words, to="> /dev/full")
    assert code == 1
    check_one_sentence(stderr, "standard output", "No space left on device")


@pytest.mark.parametrize("words", [("cache", "ls"), MANY_ROWS])
def test_a_closed_stdout_takes_nothing_and_no_file_takes_its_place(folder: Path, words: Sequence[str]) -> None:
    code, stderr = run(folder, words, to=">&-")
    assert code == 1
    check_one_sentence(stderr, "standard output", "Bad file descriptor")


@pytest.mark.parametrize("words", [("cache", "ls"), MANY_ROWS])
def test_a_reader_that_has_gone_is_no_error_to_speak_of(folder: Path, words: Sequence[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    child = subprocess.run(
        [*PROGRAM, *words],
        cwd=folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
    )
    os.close(writing)
    assert (child.returncode, child.stderr) == (1, b"")


@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full"])
def test_without_a_stderr_the_exit_code_is_the_same(folder: Path, to: str) -> None:
    assert run(folder, ("cache", "info", "nowhere.h5"), to=to)[0] == 1
    assert run(folder, ("cache", "ls"), to=f"{to} <&-")[0] == 0


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (("cache", "pack", "out.h5"), "ulimit -f 8"),
        (("export", "--format", "h5", "--output", "flat.h5"), "ulimit -f 8"),
        (("export", "--format", "h5-nested", "--output", "nested.h5"), "ulimit -f 8"),
        (("export", "--format", "csv", "--output", "out.csv"), "ulimit -f 8"),
        ((*MANY_ROWS, "--output", "rows.csv"), "ulimit -f 8"),
        (("cache", "merge", "features", "--into", "merged"), "ulimit -f 8"),
    ],
)
def test_a_file_that_may_not_grow(folder: Path, words: Sequence[str], limit: str) -> None:
    """A full disk by other means; HDF5 crashed."""
    code, stderr = run(folder, words, limit)
    assert code in (1, 2)
    check_one_sentence(stderr, "Cannot write", "File too large")


@pytest.mark.parametrize("imported", ["", "import clipcache.cache.report, clipcache.cache.store; "])
def test_too_few_open_files(folder: Path, imported: str) -> None:
    """No further file can be opened: neither a module nor an entry."""
    limit = f"import resource, sys; {imported}from clipcache.cli import main; "
    limit += "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); sys.argv = ['clipcache', 'cache', 'ls']; main()"
    child = subprocess.run([sys.executable, "-c", limit], cwd=folder, capture_output=True, text=True, timeout=120)
    assert child.returncode == 1
    check_one_sentence(child.stderr, "ulimit -n")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no ulimit -v")
def test_too_little_memory(tmp_path: Path) -> None:
    put_entry(tmp_path / "features", 2_000_000)
    code, stderr = run(tmp_path, ("consistency",), "ulimit -v 230000")
    assert code == 1
    check_one_sentence(stderr, "memory", "ulimit -v")


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ESTALE)),
        *(
            OSError(number, os.strerror(number), "file")
            for number in (errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS)
        ),
        MemoryError(),
        ImportError("x.so: failed to map segment from shared object"),
        ImportError("x.so: cannot open shared object file: Too many open files"),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=repr,
)
def test_errors_of_the_system_anywhere(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli, "cli", failing)
    monkeypatch.setattr(sys, "argv", ["clipcache"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    check_one_sentence(capsys.readouterr().err, *(["'file'"] if getattr(error, "filename", None) else []))


def test_a_fault_of_ours_is_still_to_be_reported() -> None:
    assert explained(RuntimeError("something else")) is None
    assert explained(ValueError("too many open files")) is None
    assert explained(OSError(errno.ENOTTY, "Not a typewriter")) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENFILE])
def test_a_shortage_is_not_taken_for_a_damaged_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = put_entry(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "shortage")

    monkeypatch.setattr(read.h5py, "File", refuse)
    with pytest.raises(OSError, match="shortage"):
        _ = Entry(path).attributes
