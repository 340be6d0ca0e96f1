"""A run that is ended in the middle of an item goes on from there: nothing is encoded twice, and no bit differs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import CacheError
from clipcache.cache.common.hashing import DigestMemo
from clipcache.cache.format.sampling import Sampling
from clipcache.extract import attempts, pipeline, unfinished
from clipcache.extract import run as run_module
from clipcache.extract.inputs import HashedItem, Item, find_items, hash_item
from clipcache.extract.models.frame_encoder import FrameEncoder
from clipcache.extract.video import segments, spans
from clipcache.extract.video.proof import checksum
from clipcache.extract.workers.messages import WholeTask
from extract_runs import Cli, assert_sound, extract_words, features_of, start_extract, wait_until
from odd_files import change_packets, invert, rename_box
from PIL import Image
from video_files import make_video

FRAMES = 240
SPAN = 40
"""Frames in a span, and pictures in a part, so that a short video is long."""

BATCH = 8
EVERY = Sampling()
HOW = "--batch-size", str(BATCH)
CLOSED_GOP = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "0", "flags": "+cgop"}
SIZE = (64, 48)


KEEP_AT_ONCE = f"""
from clipcache.extract import unfinished; unfinished.SAVE_AFTER_S = 0.0
from clipcache.extract.video import segments; segments.MIN_SEGMENT_FRAMES = 20
from clipcache.extract.video import spans; spans.SPAN_FRAMES = {SPAN}
"""


class Stopped(BaseException):
    """Ends a run as nothing in it expects."""


@dataclass
class Spoilt:
    """Features of which each first value is not a number."""

    started: Any
    features: Any

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        return np.where(np.arange(self.features.shape[1]) == 0, np.nan, self.features).astype(np.float32)


@dataclass
class Counter:
    """Counts the pictures that are encoded, and ends the run before the one at which it is told to."""

    pictures: int = 0
    limit: int | None = None
    spoil: bool = False
    encode: Callable[..., Any] = field(default=FrameEncoder.encode)

    def start(self, stop_at: int | None = None) -> int:
        """Count from zero, and end the run before picture `stop_at`; gives the count so far."""
        counted, self.pictures, self.limit = self.pictures, 0, stop_at
        return counted

    def __call__(self, encoder: FrameEncoder, pictures: Any) -> Any:
        if self.limit is not None and self.pictures + len(pictures) > self.limit:
            raise Stopped
        self.pictures += len(pictures)
        encoded = self.encode(encoder, pictures)
        return Spoilt(encoded.started, encoded.result()) if self.spoil else encoded


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Runs that keep everything at once and cut videos into short pieces, with their pictures counted."""
    monkeypatch.setattr(unfinished, "SAVE_AFTER_S", 0.0)
    monkeypatch.setattr(unfinished, "PART_PICTURES", SPAN)
    monkeypatch.setattr(segments, "MIN_SEGMENT_FRAMES", 20)
    monkeypatch.setattr(spans, "SPAN_FRAMES", SPAN)
    monkeypatch.setattr(pipeline, "_IMAGES_PER_TASK", SPAN)
    counter = Counter()
    monkeypatch.setattr(FrameEncoder, "encode", lambda encoder, pictures: counter(encoder, pictures))
    return counter


def kept(cache_dir: Path) -> list[Path]:
    """Files of unfinished items."""
    return [path for path in cache_dir.glob("*/.unfinished/**/*") if path.is_file()]


def cut_video(folder: Path) -> Path:
    """H.264 that is shared out in spans."""
    return make_video(folder / "cut.mp4", frames=FRAMES, size=SIZE, options=CLOSED_GOP).path


def repeating_video(folder: Path) -> Path:
    """The same with frames that repeat, which are encoded once."""
    repeat = dict.fromkeys(range(5, 180, 9), 3)
    return make_video(folder / "still.mp4", frames=180, size=SIZE, options=CLOSED_GOP, repeat=repeat).path


def whole_video(folder: Path) -> Path:
    """VP8 without a keyframe but the first: decoded in one piece."""
    return make_video(folder / "whole.webm", codec="libvpx", frames=FRAMES, size=SIZE, options={"g": "1000"}).path


def refuted_video(folder: Path) -> Path:
    """H.264 in spans at pictures that are no keyframes: decoded once more in one piece."""
    options = {"g": "1000", "keyint_min": "1000", "sc_threshold": "0", "bf": "0"}
    path = make_video(folder / "refuted.mp4", frames=FRAMES, size=SIZE, options=options).path
    rename_box(path, "moov", "trak", "mdia", "minf", "stbl", "stss")
    return path


def damaged_video(folder: Path) -> Path:
    """H.264 with damage: decoded twice, and the better result counts."""
    path = cut_video(folder)
    change_packets(path, (30, 77, 190), lambda packet: invert(packet, 0.5, 1.0))
    return path


def picture_folder(folder: Path) -> Path:
    """More pictures than a task has."""
    target = folder / "pictures"
    target.mkdir()
    for number in range(FRAMES):
        Image.new("RGB", (32, 32), (number % 256, number // 256, 7)).save(target / f"{number:04d}.png")
    return target


ITEMS = [cut_video, repeating_video, whole_video, refuted_video, damaged_video, picture_folder]


def attributes_of(cache_dir: Path) -> list[dict[str, Any]]:
    """All that entries say of themselves but when they were made."""
    return [{**asdict(entry.attributes), "created": ""} for entry in FeatureCache(cache_dir)]


@pytest.mark.parametrize(
    ("build", "part"), [*((build, 0.7) for build in ITEMS), (cut_video, 0.3), (whole_video, 0.95), (refuted_video, 0.4)]
)
def test_what_is_done_of_an_item_is_not_done_again(
    build: Callable[[Path], Path], part: float, tmp_path: Path, clipcache: Cli, counter: Counter
) -> None:
    path = build(tmp_path)
    undisturbed = tmp_path / "undisturbed"
    assert clipcache(*HOW, path, "--cache", undisturbed).code == 0
    whole = counter.pictures
    counter.start(stop_at=round(part * whole))
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    assert kept(clipcache.cache_dir)
    done = counter.start()

    outcome = clipcache(*HOW, path)

    assert counter.pictures <= whole - done + SPAN + 4 * BATCH
    assert "are encoded already, by an earlier run" in outcome.err
    ours, theirs = features_of(clipcache.cache_dir), features_of(undisturbed)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert attributes_of(clipcache.cache_dir) == attributes_of(undisturbed)
    assert kept(clipcache.cache_dir) == []
    assert_sound(clipcache.cache_dir)


@pytest.mark.parametrize("build", [cut_video, whole_video])
@pytest.mark.parametrize(
    "words", [("--precision", "bf16"), ("--dtype", "float32"), ("--every", "2"), ("--decoder", "pyav"), ("--quality",)]
)
def test_nothing_made_in_another_way_is_used(
    build: Callable[[Path], Path], words: tuple[str, ...], tmp_path: Path, clipcache: Cli, counter: Counter
) -> None:
    path = build(tmp_path)
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    counter.start()

    outcome = clipcache(*HOW, *words, path)

    assert "encoded already" not in outcome.err
    assert counter.pictures == FRAMES // (2 if "--every" in words else 1)


@pytest.mark.parametrize("build", [cut_video, whole_video])
@pytest.mark.parametrize("harm", ["cut short", "one byte", "empty", "other arrays"])
def test_a_kept_file_that_is_damaged_is_not_used(
    build: Callable[[Path], Path], harm: str, tmp_path: Path, clipcache: Cli, counter: Counter
) -> None:
    path = build(tmp_path)
    undisturbed = tmp_path / "undisturbed"
    assert clipcache(*HOW, path, "--cache", undisturbed).code == 0
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    for file in kept(clipcache.cache_dir):
        damage(file, harm)
    counter.start()

    assert clipcache(*HOW, path).code == 0

    assert counter.pictures == FRAMES
    ours, theirs = features_of(clipcache.cache_dir), features_of(undisturbed)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def damage(file: Path, harm: str) -> None:
    data = file.read_bytes()
    if harm == "cut short":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "one byte":
        place = data.index(b"features") + 200
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        np.savez(file, features=np.zeros((3, 512), np.float16))


def test_other_pictures_than_those_kept_are_all_encoded(
    tmp_path: Path, clipcache: Cli, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that gives other pictures this time, as some do for damage, is noticed by the last picture kept."""
    path = whole_video(tmp_path)
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    counter.start()
    monkeypatch.setattr(attempts, "checksum", lambda picture: checksum(picture) ^ 1)

    assert clipcache(*HOW, path).code == 0

    assert counter.pictures >= FRAMES
    assert kept(clipcache.cache_dir) == []
    assert_sound(clipcache.cache_dir)


@pytest.mark.parametrize("build", [cut_video, whole_video, picture_folder])
def test_nothing_is_kept_of_a_file_that_changed(
    build: Callable[[Path], Path], tmp_path: Path, clipcache: Cli, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is named by the content that was hashed: another file of that content would take it for its own."""
    path = build(tmp_path)
    monkeypatch.setattr(HashedItem, "has_changed", lambda *_: True)
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    assert kept(clipcache.cache_dir) == []


def test_a_change_of_some_images_is_seen_among_them(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    [hashed] = [hash_item(item, DigestMemo()) for item in find_items([folder])]
    assert not hashed.has_changed(range(FRAMES))
    (folder / "0100.png").write_bytes(b"other")
    assert hashed.has_changed()
    assert hashed.has_changed(range(90, 110))
    assert not hashed.has_changed(range(90))


def test_features_that_are_not_finite_are_not_kept(tmp_path: Path, clipcache: Cli, counter: Counter) -> None:
    """The model may be at fault this once: the next run must encode again."""
    path = cut_video(tmp_path)
    counter.spoil = True
    assert "not finite" in clipcache(*HOW, path).err
    assert kept(clipcache.cache_dir) == []
    counter.spoil = False
    counter.start()
    assert clipcache(*HOW, path).code == 0
    assert counter.pictures == FRAMES


@pytest.mark.parametrize("words", [("--batch-size", "4"), ("--num-workers", "1")])
def test_what_may_round_or_conceal_otherwise_is_made_anew(
    words: tuple[str, str], tmp_path: Path, clipcache: Cli, counter: Counter
) -> None:
    """Batches of fewer than 8 pictures go through other kernels, and threads conceal damage in another way."""
    path = cut_video(tmp_path)
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    counter.start()
    assert "encoded already" not in clipcache(*HOW, *words, path).err


def test_no_damage_of_a_kept_file_ends_a_run(tmp_path: Path) -> None:
    """Each bit of a small file is flipped: an archive may then claim to be encrypted, or of a version to come."""
    item = unfinished.Unfinished(tmp_path, {}, pytest.fail).item(
        HashedItem(Item(Path("a"), "video"), "0" * 64, 1), EVERY
    )
    item.choose(by_count=True)
    [file] = tmp_path.rglob("*.npz")
    data = file.read_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(changed)
        assert item.chosen() in (True, False, None)


@pytest.mark.parametrize("harm", ["none", "empty"])
def test_parts_of_two_runs_do_not_hide_each_other(harm: str, tmp_path: Path) -> None:
    item = unfinished.Unfinished(tmp_path, {}, pytest.fail).item(
        HashedItem(Item(Path("a"), "video"), "0" * 64, 1), EVERY
    )
    task = WholeTask(Path("a"), None, EVERY)  # type: ignore[arg-type]  the index names nothing
    rows = np.arange(120, dtype=np.float16).reshape(60, 2)
    for start, end in ((0, 20), (20, 40), (40, 60), (0, 23), (23, 40)):
        item.save_part(task, start, rows[start:end], end)
    if harm == "empty":
        [first] = tmp_path.rglob("0000000000-0000000020-*")
        first.write_bytes(b"")
    beginning = item.load_beginning(task)
    assert beginning is not None
    np.testing.assert_array_equal(beginning.features, rows)
    assert beginning.checksum == 60


def test_a_folder_that_another_run_removed_ends_no_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_items = unfinished.Unfinished(tmp_path, {}, pytest.fail)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", removed_meanwhile)
        kept_items.write(tmp_path / "a.npz", {"x": np.zeros(1)})
    kept_items.write(tmp_path / "b.npz", {"x": np.zeros(1)})
    assert (tmp_path / "b.npz").exists()


def removed_meanwhile(*_: object) -> None:
    raise FileNotFoundError(2, "No such file or directory")


def test_a_disk_too_full_for_both_gets_the_entry(
    tmp_path: Path, clipcache: Cli, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = run_module.write_entry, []

    def write_if_room(*arguments: Any) -> Path:
        seen.append(len(kept(clipcache.cache_dir)))
        if seen[-1]:
            raise CacheError("Cannot write (No space left on device)")
        return write(*arguments)

    monkeypatch.setattr(run_module, "write_entry", write_if_room)
    assert clipcache(*HOW, cut_video(tmp_path)).code == 0
    assert seen[0] > 0
    assert seen[1:] == [0]
    assert len(clipcache.entries) == 1


def test_short_videos_leave_no_files(
    tmp_path: Path, clipcache: Cli, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cut_video(tmp_path)
    monkeypatch.setattr(unfinished, "SAVE_AFTER_S", 1000.0)
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, path)
    assert kept(clipcache.cache_dir) == []


def test_what_nobody_went_on_with_is_removed(tmp_path: Path, clipcache: Cli, counter: Counter) -> None:
    counter.start(stop_at=200)
    with pytest.raises(Stopped):
        clipcache(*HOW, cut_video(tmp_path))
    [folder] = clipcache.cache_dir.glob("*/.unfinished/*")
    other = make_video(tmp_path / "other.mp4", frames=5, size=SIZE).path
    counter.start()
    assert clipcache(*HOW, other).code == 0
    assert folder.exists()
    os.utime(folder, (0, 0))
    assert clipcache(*HOW, "--overwrite", other).code == 0
    assert not folder.exists()


def test_a_full_disk_costs_only_what_would_be_kept(
    tmp_path: Path, clipcache: Cli, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is a convenience: the run goes on without it, and says so once."""
    monkeypatch.setattr(unfinished, "replacing", full_disk)
    outcome = clipcache(*HOW, cut_video(tmp_path))
    assert outcome.code == 0
    assert outcome.err.count("what is done of unfinished videos is not kept: ") == 1
    assert len(clipcache.entries) == 1


def full_disk(path: Path, **how: Any) -> Any:
    raise CacheError(f"Cannot write {path} (No space left on device)", "free space")


@pytest.mark.once
def test_a_killed_run_goes_on_in_the_middle_of_a_video(tmp_path: Path, tiny_weights: Path) -> None:
    """The same in processes of their own: SIGKILL to the whole group at a random moment, several times."""
    path = make_video(tmp_path / "long.mp4", frames=2 * FRAMES, size=SIZE, options=CLOSED_GOP).path
    caches = tmp_path / "undisturbed", tmp_path / "killed"
    words = [[*extract_words(cache, tiny_weights), "--num-workers", "2", str(path)] for cache in caches]
    undisturbed = start_extract(*words[0])
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    seen = set()
    for _ in range(2):
        seen |= killed_when_more_is_kept(caches[1], words[1], seen)
    process = start_extract(*words[1], prelude=KEEP_AT_ONCE)
    _, said = process.communicate()
    assert process.returncode == 0
    assert seen
    assert "are encoded already" in said
    ours, theirs = features_of(caches[1]), features_of(caches[0])
    assert np.array_equal(ours["long.mp4"], theirs["long.mp4"])
    assert kept(caches[1]) == []
    assert_sound(caches[1])


def killed_when_more_is_kept(cache_dir: Path, words: list[str], seen: set[Path]) -> set[Path]:
    """Run until something is kept that was not, and kill the run and its workers; gives what is kept."""
    process = start_extract(*words, prelude=KEEP_AT_ONCE)
    wait_until(lambda: process.poll() is not None or set(kept(cache_dir)) - seen, "a span that is kept")
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return set(kept(cache_dir))
