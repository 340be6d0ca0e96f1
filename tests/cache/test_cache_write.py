"""An entry is whole or not there: kills, full disks, two writers, renamed videos."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cache_entries import MODEL_DIR, make_features, put_entry, sha256_of
from checkout import SUPPORT
from clipcache.cache import FeatureCache
from clipcache.cache.common.atomic import STALE_AFTER_S, remove_stale_temporaries, temporary_name, write_atomically
from clipcache.cache.common.errors import CacheError, ContentError
from clipcache.cache.entry import Entry
from clipcache.cache.verify import problem_of, verify

PRELUDE = f"import sys; sys.path.insert(0, {str(SUPPORT)!r}); from pathlib import Path\n"
PRELUDE += "from cache_entries import put_entry, sha256_of\n"


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.fault
def test_kill_9_never_leaves_a_bad_entry(tmp_path: Path) -> None:
    code = """
cache = Path(sys.argv[1])
for number in range(10**9):
    put_entry(cache, 20_000, seed=number, video_sha256=sha256_of(str(number % 5)))
    if number == 0:
        print("writing", flush=True)
"""
    pauses_s = np.random.default_rng(0).uniform(0, 0.06, size=100)
    left_behind = 0
    for kills, pause_s in enumerate(pauses_s):
        if kills >= 10 and left_behind:  # how many it takes to hit a write is the machine's affair
            break
        with start(code, tmp_path) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            time.sleep(pause_s)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        findings = list(verify(FeatureCache(tmp_path)))
        assert findings
        assert [finding.problem for finding in findings if finding.problem] == []
        left_behind += remove_stale_temporaries(tmp_path)
        assert all(path.suffix == ".h5" for path in files_in(tmp_path))
    assert left_behind > 0, "no kill hit a write: the test proves nothing"


def test_two_processes_writing_one_entry_leave_one(tmp_path: Path) -> None:
    code = """
for number in range(40):
    put_entry(Path(sys.argv[1]), 500, seed=number, video_name=sys.argv[2], video_sha256=sha256_of("same"))
"""
    with start(code, tmp_path, "first.mp4") as one, start(code, tmp_path, "second.mp4") as two:
        errors = one.communicate()[1], two.communicate()[1]
    assert errors == (b"", b"")
    (path,) = files_in(tmp_path)
    assert problem_of(path) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource
from clipcache.cache.common.errors import CacheError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    put_entry(Path(sys.argv[1]), 5000)
except CacheError as error:
    print(error)
"""
    with start(code, tmp_path) as process:
        out, err = process.communicate()
    assert out.decode().startswith(f"Cannot write '{tmp_path / MODEL_DIR}")
    assert "File too large" in out.decode()
    assert out.count(b"\n") == 1
    assert err == b""
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("call", "code"), [("fsync", errno.ENOSPC), ("replace", errno.EACCES), ("fsync", errno.EROFS)])
def test_failing_disk_keeps_the_old_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = put_entry(tmp_path, seed=1)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CacheError, match=os.strerror(code)) as caught:
        put_entry(tmp_path, seed=2)
    assert not isinstance(caught.value, ContentError), "the fault is the disk's"
    assert files_in(tmp_path) == [path]
    np.testing.assert_array_equal(Entry(path).features, make_features(seed=1))


def test_interrupt_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put_entry(tmp_path)
    assert files_in(tmp_path) == []


def test_a_disk_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(path: Path) -> None:
        if path.is_file():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)

    monkeypatch.setattr("clipcache.cache.common.atomic._sync", spoil)
    with pytest.raises(CacheError, match="check the disk"):
        put_entry(tmp_path, 5000)
    assert files_in(tmp_path) == []


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(CacheError, match="Cannot write"):
        put_entry(tmp_path / "cache")


def test_renamed_video_keeps_one_entry(tmp_path: Path) -> None:
    first = put_entry(tmp_path, seed=1, video_name="old name.mp4")
    second = put_entry(tmp_path, seed=2, video_name="new name.mp4")
    assert second == first
    assert files_in(tmp_path) == [first]
    assert Entry(first).video_name == "new name.mp4"
    np.testing.assert_array_equal(Entry(first).features, make_features(seed=2))


def test_a_fuller_entry_replaces_those_it_covers(tmp_path: Path) -> None:
    other_video = put_entry(tmp_path, video_sha256=sha256_of("other"), sampling="fps=2")
    other_model = put_entry(tmp_path, weights_sha256="ef" * 32, sampling="fps=2")
    by_two, by_four, by_five = (put_entry(tmp_path, sampling=f"fps={fps}") for fps in (2, 4, 5))
    assert files_in(tmp_path) == sorted([other_video, other_model, by_four, by_five])
    assert not by_two.exists()
    everything = put_entry(tmp_path)
    assert files_in(tmp_path) == sorted([other_video, other_model, everything])


def test_an_incomplete_entry_replaces_no_other(tmp_path: Path) -> None:
    sampled = put_entry(tmp_path, sampling="fps=2")
    partial = put_entry(tmp_path, complete=False, frames_expected=100)
    assert files_in(tmp_path) == sorted([sampled, partial])


def test_stale_temporaries_are_those_of_the_dead_and_the_old(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    mine = temporary_name()
    host = mine.removeprefix(".clipcache-").split(".tmp-")[0]
    assert host.startswith(socket.gethostname()[:5])
    files = {
        "mine": mine,
        "dead": f".clipcache-{host}.tmp-{process.pid}-0a",
        "elsewhere": f".clipcache-elsewhere-1.tmp-{process.pid}-0b",
        "elsewhere, old": f".clipcache-elsewhere-1.tmp-{process.pid}-0c",
        "not a temporary": ".clipcache-notes",
    }
    for name in files.values():
        (tmp_path / name).write_bytes(b"")
    long_ago = time.time() - STALE_AFTER_S - 60
    os.utime(tmp_path / files["elsewhere, old"], (long_ago, long_ago))
    os.utime(tmp_path / files["not a temporary"], (long_ago, long_ago))
    assert remove_stale_temporaries(tmp_path.parent, below=False) == 0
    assert remove_stale_temporaries(tmp_path) == 2
    assert {path.name for path in files_in(tmp_path)} == {
        files[key] for key in ("mine", "elsewhere", "not a temporary")
    }


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
