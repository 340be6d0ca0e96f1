"""Copies of what lies elsewhere: no more of them at once than allowed, and none that outlives its use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clipcache.cache.common.atomic import STALE_AFTER_S, host_name
from clipcache.cache.common.hashing import sha256_file
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.cluster import work_queue
from clipcache.extract.cluster.claims import Claims
from clipcache.extract.cluster.work_queue import WorkQueue
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.remote import scratch as scratch_module
from clipcache.extract.remote.memory import Memory
from clipcache.extract.remote.scratch import Scratch, remove_stale
from extract_runs import Cli, extract_words, start_extract, wait_until
from remote_library import Library, Run
from web_server import WebServer


def serve(server: WebServer, library: Library, **how: object) -> list[str]:
    return [server.add(f"/{name}", data, **how) for name, data in library.videos.items()]


def held(folder: Path) -> int:
    sizes = 0
    for path in folder.rglob("*"):
        try:
            sizes += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # removed meanwhile
    return sizes


class Peak:
    """Most bytes that a folder held while it was watched."""

    bytes = 0


@contextmanager
def watched(folder: Path) -> Iterator[Peak]:
    peak, is_over = Peak(), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.001):
            peak.bytes = max(peak.bytes, held(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    yield peak
    is_over.set()
    thread.join()


def test_no_more_is_held_than_allowed(
    library: Library, server: WebServer, run: Run, scratch: Path, tmp_path: Path
) -> None:
    sizes = sorted(map(len, library.videos.values()))
    limit = sum(sizes[-2:])
    with watched(scratch) as peak:
        assert run(*serve(server, library), scratch_bytes=limit).extracted == 4
    assert sizes[0] <= peak.bytes <= limit
    library.assert_same(tmp_path / "cache")


@pytest.mark.parametrize("length", [True, False])
def test_what_is_larger_or_of_unknown_size_is_alone(
    length: bool, library: Library, server: WebServer, run: Run, scratch: Path, tmp_path: Path
) -> None:
    with watched(scratch) as peak:
        urls = serve(server, library, length=length, ranges=length)
        assert run(*urls, scratch_bytes=1).extracted == 4
    assert 0 < peak.bytes <= max(map(len, library.videos.values()))
    library.assert_same(tmp_path / "cache")


class Usage(NamedTuple):
    free: int


def test_a_disk_without_room_is_told(
    library: Library, server: WebServer, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    urls = serve(server, library)
    sizes = [len(data) for data in library.videos.values()]
    free = scratch_module._ROOM_LEFT + max(sizes) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))
    summary = run(*urls)
    assert (summary.extracted, summary.failed) == (3, 1)
    [sentence] = summary.failures.values()
    assert "There is no room for 'http" in sentence
    assert "--scratch" in sentence
    assert not (tmp_path / "cache" / "failed.jsonl").exists()


def test_a_disk_that_fills_up_leaves_nothing(scratch: Path) -> None:
    class Endless:
        name = "s3://bucket/clip.mp4"

        def copy(self, write: Any) -> None:
            write(b"x" * 100)
            raise OSError(28, "No space left on device")

    space = Scratch(scratch)
    space.open()
    source: Any = Endless()
    path = space.reserve(source, 1000)
    assert path is not None
    with pytest.raises(Exception, match=r"no room for 's3://bucket/clip.mp4'.*\(No space left on device\)"):
        space.fetch(source, path, lambda _: None)
    assert held(scratch) == 0
    assert space.reserve(source, None), "there is all the room again"
    space.close()
    assert list(scratch.iterdir()) == []


def test_what_has_no_end_does_not_fill_the_disk(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        name = "https://host/clip.mp4"

        def copy(self, write: Any) -> None:
            for _ in range(1000):
                write(b"x" * 1000)

    room = scratch_module._ROOM_LEFT + 10_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(room - held(scratch)))
    space = Scratch(scratch)
    space.open()
    source: Any = Endless()
    path = space.reserve(source, None)
    assert path is not None
    monkeypatch.setattr(scratch_module, "_ROOM_LEFT", 1000)
    room = 10_000
    with pytest.raises(Exception, match=r"no room for 'https://host/clip.mp4'.*\(No space left on device\)"):
        space.fetch(source, path, lambda _: None)
    assert held(scratch) == 0
    space.close()


def test_of_what_is_cached_no_copy_stays(library: Library, server: WebServer, run: Run, tmp_path: Path) -> None:
    """Copies of equal content, and of what is cached already, make room for the others at once."""
    for name, data in library.videos.items():
        (tmp_path / name).write_bytes(data)
    run(*(tmp_path / name for name in library.videos))
    urls = [server.add(f"/{copy}/{name}", data) for name, data in library.videos.items() for copy in range(3)]
    assert run(*urls, scratch_bytes=1).cached == 12


def test_what_another_run_is_at_is_not_kept_but_fetched_again(
    library: Library, server: WebServer, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    urls = serve(server, library)
    (tmp_path / "one.mp4").write_bytes(library.videos["clip0.mp4"])
    run(tmp_path / "one.mp4")
    [model] = (tmp_path / "cache").glob("tiny-*")
    other = Claims(model)
    path = tmp_path / "clip1.mp4"
    path.write_bytes(library.videos["clip1.mp4"])
    other.take(HashedItem(Item(path, "video"), sha256_file(path), 1), Sampling())
    held_meanwhile = []

    def wait(queue: WorkQueue) -> None:
        if queue.waits_for_others:  # not sooner: it would be free when it is first asked for
            held_meanwhile.append(held(tmp_path / "scratch"))
            other.close()
        time.sleep(0.01)

    with monkeypatch.context() as patch:
        patch.setattr(WorkQueue, "wait", wait)
        patch.setattr(work_queue, "_POLL_S", 0.0)
        assert run(*urls, scratch_bytes=1).extracted == 3
    assert held_meanwhile[0] == 0
    paths = [request.path for request in server.requests if request.sent > 1]
    assert sorted(paths) == ["/clip0.mp4", "/clip1.mp4", "/clip1.mp4", "/clip2.mp4", "/clip3.mp4"]


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_folders_of_dead_runs_are_removed_and_no_others(scratch: Path) -> None:
    def make(name: str) -> Path:
        folder = scratch / name
        folder.mkdir()
        (folder / "0.mp4").write_bytes(b"x")
        return folder

    prefix = "clipcache-scratch-"
    dead = make(f"{prefix}{host_name()}.{dead_pid()}.abc")
    alive = make(f"{prefix}{host_name()}.{os.getpid()}.abc")
    elsewhere, old = make(f"{prefix}elsewhere-1.1.abc"), make(f"{prefix}elsewhere-1.2.abc")
    foreign = make("somebody")
    os.utime(old, (time.time() - STALE_AFTER_S - 60,) * 2)
    target = make("target")
    link = scratch / f"{prefix}{host_name()}.{dead_pid()}.link"
    link.symlink_to(target)
    remove_stale(scratch)
    assert [dead.exists(), alive.exists(), elsewhere.exists(), old.exists(), foreign.exists()] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert (target / "0.mp4").exists()


@pytest.mark.once
def test_a_killed_run_leaves_scratch_that_the_next_removes(
    library: Library, server: WebServer, clipcache: Cli, tiny_weights: Path, scratch: Path
) -> None:
    urls = serve(server, library)
    server.pages["/clip3.mp4"].pause_s = 60.0
    words = [*extract_words(clipcache.cache_dir, tiny_weights), "--num-workers", "0", "--scratch", scratch]
    killed = start_extract(*words, *urls)
    wait_until(lambda: list(scratch.rglob("*.mp4")) or killed.poll() is not None, "a copy")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    [left] = scratch.iterdir()
    server.pages["/clip3.mp4"].pause_s = 0.0
    assert "0 failed" in clipcache(*urls, "--scratch", scratch).out
    assert not left.exists()
    assert list(scratch.iterdir()) == []
    library.assert_same(clipcache.cache_dir)


@pytest.mark.once
def test_an_interrupted_run_leaves_nothing_and_shows_no_credentials(
    library: Library, server: WebServer, clipcache: Cli, tiny_weights: Path, scratch: Path
) -> None:
    urls = [f"{url}?sig=hunter2" for url in serve(server, library)]
    server.pages["/clip3.mp4"].pause_s = 60.0
    words = [*extract_words(clipcache.cache_dir, tiny_weights), "--num-workers", "0", "--scratch", scratch]
    run = start_extract(*words, *urls)
    wait_until(lambda: list(clipcache.cache_dir.rglob("*.h5")) or run.poll() is not None, "an entry")
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode == 130
    assert "run the same command again" in err
    assert "hunter2" not in err
    assert list(scratch.iterdir()) == []


def test_where_no_scratch_can_be_made_the_run_says_so(
    library: Library, server: WebServer, clipcache: Cli, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    outcome = clipcache(*serve(server, library), "--scratch", tmp_path / "file")
    assert outcome.code == 2
    assert "choose another folder with --scratch" in outcome.err


def test_memory_that_cannot_be_used_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPCACHE_MEMO", str(tmp_path))
    memory = Memory()
    memory.remember_sha256("s3://a/b", "1", "0" * 64)
    assert memory.sha256("s3://a/b", "1") is None
    monkeypatch.setenv("CLIPCACHE_MEMO", str(tmp_path / "memo"))
    memory.remember_sha256("s3://a/b", "1", "0" * 64)
    memory.remember_sha256("s3://a/c", None, "0" * 64)
    memory.remember_sha256("s3://a/d", "1", "rubbish")
    assert memory.sha256("s3://a/b", "1") == "0" * 64
    assert memory.sha256("s3://a/b", "2") is None
    assert memory.sha256("s3://a/c", None) is None
    assert memory.sha256("s3://a/d", "1") is None
