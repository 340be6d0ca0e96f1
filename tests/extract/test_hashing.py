"""Hashing beside the work: what comes first, how far ahead, and how it ends."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clipcache.cache import DigestMemo
from clipcache.cache.common import hashing as content
from clipcache.cache.common.errors import UsageError
from clipcache.extract import ExtractOptions, extract, hashing
from clipcache.extract.hashing import HashStream
from clipcache.extract.inputs import HashedItem, Item
from video_files import make_video

HOUR_AGO = time.time() - 3600


def make(folder: Path, **sizes: int) -> list[Item]:
    """Files that have not changed for an hour, so that their checksums are remembered."""
    for name, size in sizes.items():
        (folder / name).write_bytes(name.encode().ljust(size, b"."))
        os.utime(folder / name, (HOUR_AGO, HOUR_AGO))
    return [Item(folder / name, "video") for name in sizes]


def sha256(item: Item) -> str:
    return hashlib.sha256(item.path.read_bytes()).hexdigest()


@pytest.fixture
def memo(tmp_path: Path) -> DigestMemo:
    return DigestMemo(tmp_path / "memo.sqlite3")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in order; one thread."""
    monkeypatch.setattr(hashing, "usable_cores", lambda: 1)
    names: list[str] = []
    sha256_file = content.sha256_file

    def noted(path: Path, on_bytes: Callable[[int], None]) -> str:
        names.append(path.name)
        return sha256_file(path, on_bytes)

    monkeypatch.setattr(content, "sha256_file", noted)
    return names


def everything(stream: HashStream) -> list[HashedItem]:
    taken: list[HashedItem] = []
    while not stream.is_over:
        stream.wait(5.0)
        for item in stream.take():
            taken.append(item)
            stream.go_on(item)
    return taken


def test_each_item_comes_once_with_its_checksum(tmp_path: Path, memo: DigestMemo) -> None:
    items = make(tmp_path, **{f"{number}.mp4": 10 * number + 10 for number in range(40)})
    with HashStream(items, memo) as stream:
        taken = everything(stream)
    assert {one.item.path: one.sha256 for one in taken} == {item.path: sha256(item) for item in items}
    assert len(taken) == len(items)
    assert stream.found == len(items)
    assert stream.found_bytes == stream.known_bytes == sum(one.size for one in taken)


def test_what_is_remembered_comes_first_and_is_not_read(tmp_path: Path, memo: DigestMemo, reads: list[str]) -> None:
    items = make(tmp_path, new=10, old=20, newer=5)
    memo.sha256(items[1].path)
    reads.clear()
    with HashStream(items, memo) as stream:
        taken = everything(stream)
    assert taken[0].item.path.name == "old"
    assert sorted(reads) == ["new", "newer"]


def test_the_smallest_is_hashed_first_and_the_rest_in_order(tmp_path: Path, memo: DigestMemo, reads: list[str]) -> None:
    items = make(tmp_path, huge=5000, large=900, small=20, other=300)
    with HashStream(items, memo) as stream:
        everything(stream)
    assert reads == ["small", "huge", "large", "other"]


def test_hashing_stays_a_bounded_number_of_bytes_ahead(
    tmp_path: Path, memo: DigestMemo, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "AHEAD_BYTES", 250)
    items = make(tmp_path, a=100, b=100, c=100, larger_than_the_bound=400, d=100)
    with HashStream(items, memo) as stream:
        first: list[HashedItem] = []
        while len(first) < 2:
            stream.wait(5.0)
            first += stream.take()
        time.sleep(0.1)
        assert (stream.take(), reads) == ([], ["a", "b"])
        stream.go_on(first[0])
        stream.wait(5.0)
        assert [one.item.path.name for one in stream.take()] == ["c"]
        time.sleep(0.1)
        assert reads == ["a", "b", "c"]
        for one in (first[1], HashedItem(items[2], "", 100)):
            stream.go_on(one)
        stream.wait(5.0)
        [alone] = stream.take()
        assert alone.item.path.name == "larger_than_the_bound"
        stream.go_on(alone)
        assert [one.item.path.name for one in everything(stream)] == ["d"]


def test_little_is_hashed_before_decoding_begins(
    tmp_path: Path, memo: DigestMemo, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "START_AHEAD_BYTES", 150)
    items = make(tmp_path, a=100, b=100, c=100)
    with HashStream(items, memo) as stream:
        stream.wait(5.0)
        time.sleep(0.1)
        assert reads == ["a"]
        stream.look_ahead()
        assert len(everything(stream)) == 3


def test_what_cannot_be_read_says_why(tmp_path: Path, memo: DigestMemo) -> None:
    items = [*make(tmp_path, a=10), Item(tmp_path / "gone.mp4", "video")]
    with HashStream(items, memo) as stream:
        taken = {one.item.path.name: one for one in everything(stream)}
    assert taken["a"].problem is None
    assert "gone.mp4" in str(taken["gone.mp4"].problem)


def test_what_is_found_and_what_is_known_agree_in_the_end(
    tmp_path: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder one image is remembered, one file cannot be read, and one grows while it is hashed."""
    broken, growing, *images = (item.path for item in make(tmp_path, broken=500, growing=20, one=30, two=40))
    memo.sha256(images[0])
    sha256_file, size_of = content.sha256_file, hashing.size_of

    def hash_one(path: Path, on_bytes: Callable[[int], None]) -> str:
        if path == broken:
            raise UsageError("It cannot be read")
        return sha256_file(path, on_bytes)

    monkeypatch.setattr(content, "sha256_file", hash_one)
    monkeypatch.setattr(hashing, "size_of", lambda item: size_of(item) - (item.path == growing))
    items = [Item(broken, "video"), Item(growing, "video"), Item(tmp_path, "image-folder", tuple(images))]
    monkeypatch.setattr(content, "image_files", lambda _: images)
    with HashStream(items, memo) as stream:
        taken = everything(stream)
    assert sorted(one.size for one in taken) == [0, 20, 70]
    assert (stream.found, stream.found_bytes, stream.known_bytes) == (3, 90, 90)


def test_closing_ends_the_search_for_what_is_remembered(tmp_path: Path, memo: DigestMemo) -> None:
    items = make(tmp_path, **{str(number): 1 for number in range(300)})
    looked: list[Path] = []
    known = memo.known

    def slow(path: Path) -> str | None:
        time.sleep(0.01)
        looked.append(path)
        return known(path)

    memo.known = slow  # type: ignore[method-assign]
    with HashStream(items, memo):
        time.sleep(0.05)
    assert len(looked) < 100
    assert [thread for thread in threading.enumerate() if thread.name == "hash"] == []


def test_threads_that_hang_hold_up_the_end_together_and_not_one_by_one(
    tmp_path: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged_in = threading.Event()
    monkeypatch.setattr(hashing, "usable_cores", lambda: 4)
    monkeypatch.setattr(hashing, "_END_S", 0.2)
    monkeypatch.setattr(content, "sha256_file", lambda _, __: plugged_in.wait(60) and "")
    with HashStream(make(tmp_path, a=1, b=1, c=1, d=1), memo) as stream:
        time.sleep(0.1)
        started = time.monotonic()
    passed = time.monotonic() - started
    plugged_in.set()
    for thread in stream._threads:
        thread.join()
    assert passed < 0.5


@pytest.fixture
def slow_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Files without end: a block comes every hundredth of a second."""
    began = threading.Event()

    def without_end(path: Path, on_bytes: Callable[[int], None]) -> str:
        while True:
            began.set()
            on_bytes(1)
            time.sleep(0.01)

    monkeypatch.setattr(content, "sha256_file", without_end)
    yield began
    assert [thread for thread in threading.enumerate() if thread.name == "hash"] == []


def test_closing_ends_a_thread_in_the_middle_of_a_file(
    tmp_path: Path, memo: DigestMemo, slow_reads: threading.Event
) -> None:
    with HashStream(make(tmp_path, a=10, b=10), memo):
        assert slow_reads.wait(5.0)


def test_an_error_in_a_thread_is_raised_where_items_are_taken(
    tmp_path: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, on_bytes: Callable[[int], None]) -> str:
        raise ZeroDivisionError(path)

    monkeypatch.setattr(content, "sha256_file", fail)
    with HashStream(make(tmp_path, a=10), memo) as stream, pytest.raises(ZeroDivisionError):
        everything(stream)


def test_a_video_is_cached_while_others_are_still_hashed(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum of the second file is not known before the first is in the cache."""
    (tmp_path / "videos").mkdir()
    videos = [make_video(tmp_path / "videos" / name, frames=count).path for name, count in (("a.mp4", 3), ("b.mp4", 9))]
    cache_dir = tmp_path / "cache"
    sha256_file = content.sha256_file
    waited: list[str] = []

    def wait_for_an_entry(path: Path, on_bytes: Callable[[int], None]) -> str:
        if path.parent == videos[0].parent and path.name == "b.mp4":
            deadline = time.monotonic() + 60
            while not list(cache_dir.glob("**/*.h5")) and time.monotonic() < deadline:
                time.sleep(0.02)
            waited.extend(entry.name for entry in cache_dir.glob("**/*.h5"))
        return sha256_file(path, on_bytes)

    monkeypatch.setattr(content, "sha256_file", wait_for_an_entry)
    options = ExtractOptions(model="tiny", weights=tiny_weights, device="cpu", num_workers=0)
    summary = extract([tmp_path / "videos"], cache_dir, options)
    assert len(waited) == 1
    assert summary.extracted == 2
