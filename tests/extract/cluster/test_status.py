"""`cache status`: what is done, partial, failed, claimed and outstanding, without reading a video."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cache_entries import MODEL_DIR, put_entry, sha256_of
from checkout import CHECKOUT
from click.testing import CliRunner
from clipcache.cache.common import hashing
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.cache.failure_log import NO_AUDIO, Failure, FailureLog
from clipcache.cache.format.sampling import Sampling
from clipcache.cli import cli
from clipcache.extract.cluster.claims import STALE_AFTER_S, Claims, Owner
from clipcache.extract.cluster.shards import number_of
from clipcache.extract.inputs import HashedItem, Item
from extract_runs import Cli, extract_words
from video_files import make_video

ALL = Sampling()
LONG_AGO = 1_000_000_000
NEVER = "2001-01-01T00:00:00+00:00"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Files that nobody could decode: nothing here reads them."""
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(12):
        add(folder / f"{number}.mp4", f"content {number}")
    return folder


def add(path: Path, content: str, modified: float = LONG_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (modified, modified))
    return path


def cached(cache: Path, video: Path, **changes: Any) -> Path:
    said = {"video_name": video.name, "video_sha256": sha256_of(video.read_text()), "source_path": str(video)}
    return put_entry(cache, 5, video_bytes=video.stat().st_size, **said, **changes)


def claim(cache: Path, video: Path, harm: Callable[[Owner], Owner] = lambda owner: owner, age_s: float = 0) -> Claims:
    claims = Claims(cache / MODEL_DIR)
    item = HashedItem(Item(video, "video"), sha256_of(video.read_text()), 1)
    assert claims.take(item, ALL)
    path = cache / MODEL_DIR / ".claims" / item.sha256[:16]
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, **asdict(harm(Owner.this_process()))}))
    os.utime(path, (time.time() - age_s,) * 2)
    return claims


def elsewhere(owner: Owner) -> Owner:
    return replace(owner, host="node17")


def gone(owner: Owner) -> Owner:
    return replace(owner, started=f"{owner.started}0")


def failure(video: Path, time: str = "2020-01-01T00:00:00+00:00", error: str = "MediaError") -> Failure:
    return Failure(str(video), sha256_of(video.read_text()), error, f"{video.name} is broken.", time, MODEL_DIR)


def run(*words: Any) -> tuple[str, str]:
    result = CliRunner().invoke(cli, ["cache", "status", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout, result.stderr


def status(*words: Any) -> Any:
    return json.loads(run(*words, "--json")[0])


@pytest.fixture
def half_done(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an item in each state."""
    cache = tmp_path / "cache"
    cached(cache, library / "0.mp4")
    cached(cache, library / "1.mp4")
    cached(cache, library / "2.mp4", complete=False)
    cached(cache, library / "3.mp4").write_bytes(b"damaged")
    FailureLog(cache).append(failure(library / "4.mp4"))
    claim(cache, library / "5.mp4")
    claim(cache, library / "6.mp4", elsewhere)
    claim(cache, library / "7.mp4", elsewhere, STALE_AFTER_S + 60)
    claim(cache, library / "8.mp4", gone)
    FailureLog(cache).append(failure(library / "9.mp4", NEVER))
    memo = DigestMemo()
    memo.sha256(library / "3.mp4")
    memo.flush()
    monkeypatch.setattr(hashing, "sha256_file", lambda path: pytest.fail(f"{path} is read"))
    return cache


def test_each_state_is_counted(half_done: Path, library: Path) -> None:
    said = status(library, "--cache", half_done)
    states = {name: said[name] for name in STATES}
    assert states == {
        "done": 2,
        "partial": 1,
        "bad": 1,
        "no_audio": 0,
        "failed": 1,
        "claimed": 2,
        "outstanding": 5,
        "unreadable": 0,
    }
    assert said["items"] == sum(states.values()) == 12
    names = {Path(path).stem for path in said["outstanding_paths"]}
    assert names == {"7", "8", "9", "10", "11"}, "stale claims, what was modified since it failed, and what is new"
    assert {(one["state"], Path(one["path"]).name) for one in said["problems"]} == {
        ("bad", "3.mp4"),
        ("failed", "4.mp4"),
    }
    assert "4.mp4 is broken." in [one["why"] for one in said["problems"]]
    assert (said["by_checksum"], said["by_path"], said["by_name"], said["not_recognised"]) == (1, 3, 0, 8)


STATES = ("done", "partial", "bad", "no_audio", "failed", "claimed", "outstanding", "unreadable")


def test_claims_say_whose_they_are(half_done: Path, library: Path) -> None:
    claims = {Path(one["path"]).stem: one for one in status(library, "--cache", half_done)["claims"]}
    assert {name: one["stale"] for name, one in claims.items()} == {"5": False, "6": False, "7": True, "8": True}
    assert claims["5"]["pid"] == os.getpid()
    assert claims["6"]["host"] == "node17"
    assert claims["6"]["since"].startswith("20")
    text, _ = run(library, "--cache", half_done)
    assert sorted(line.split()[-2] for line in text.splitlines() if line.startswith("node17")) == ["alive", "stale"]


def test_the_table_is_one_that_people_read(half_done: Path, library: Path) -> None:
    text, _ = run(library, "--cache", half_done, "--shards", 1)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == f"{MODEL_DIR} in {half_done}"
    counts = ["done 2", "partial 1", "bad 1", "failed 1", "claimed 2", "outstanding 5", "all 12"]
    assert lines[2 : 4 + len(counts)] == ["STATE ITEMS", *counts, ""]
    assert "by checksum: 1, by path and size: 3, by name and size: 0, not recognised: 8 (--hash" in text
    assert lines[-1] == "--array=0"


def test_the_cache_alone(half_done: Path) -> None:
    [said] = status("--cache", half_done)
    assert {name: said[name] for name in STATES[:6]} == {
        "done": 2,
        "partial": 1,
        "bad": 1,
        "no_audio": 0,
        "failed": 2,
        "claimed": 2,
    }
    assert "outstanding" not in said
    assert len(said["claims"]) == 4
    text, _ = run("--cache", half_done)
    assert "outstanding" not in text
    assert "4.mp4 is broken." in text


def test_a_failure_is_known_by_its_content_too(half_done: Path, library: Path) -> None:
    (library / "4.mp4").rename(library / "renamed.mp4")
    said = status(library, "--cache", half_done)
    assert (said["failed"], said["outstanding"]) == (0, 6), "its content is not known under this name"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "sha256_file", sha256_file)
        said = status(library, "--cache", half_done, "--hash")
    assert (said["failed"], said["outstanding"], said["not_recognised"]) == (2, 4, 0)


def test_what_cannot_be_read_is_not_outstanding(half_done: Path, library: Path) -> None:
    said = status(library / "gone.mp4", library / "0.mp4", "--cache", half_done, "--shards", 3)
    assert (said["unreadable"], said["done"], said["outstanding"], said["array"]) == (1, 1, 0, "")
    assert [one["state"] for one in said["problems"]] == ["unreadable"]
    assert (
        run(library / "0.mp4", "--cache", half_done, "--shards", 3)[0].splitlines()[-1].startswith("Nothing is outst")
    )


def test_a_library_elsewhere_is_recognised_by_name(half_done: Path, library: Path, tmp_path: Path) -> None:
    library.rename(tmp_path / "moved")
    said = status(tmp_path / "moved", "--cache", half_done)
    assert (said["done"], said["partial"], said["by_path"], said["by_name"]) == (2, 1, 0, 3)
    assert said["bad"] == 0, "a bad entry does not say what it was made of"


def test_names_that_several_have_recognise_nothing_unless_all_are_there(library: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    several = [add(library / f"take{number}" / "clip.mp4", f"clip {number}") for number in range(3)]
    for video in several[:2]:
        cached(cache, video, created="2026-01-02T03:04:05+00:00")
    for video in several:
        video.parent.rename(tmp_path / video.parent.name)
    moved = [tmp_path / video.parent.name / video.name for video in several]
    assert status(*moved, "--cache", cache)["by_name"] == 0
    assert status(*moved[:2], "--cache", cache)["by_name"] == 2
    memo = DigestMemo()
    memo.sha256(moved[0])
    memo.flush()
    said = status(*moved[1:], "--cache", cache)
    assert (said["by_name"], said["outstanding"]) == (2, 0), "which of the two is not known: two contents, two names"
    said = status(*moved, "--cache", cache)
    assert (said["by_checksum"], said["by_name"], said["outstanding"]) == (1, 0, 2), "one content is left for two"


def test_a_file_that_was_changed_is_not_recognised(half_done: Path, library: Path) -> None:
    add(library / "0.mp4", "content X", time.time())
    add(library / "1.mp4", "content of another size")
    said = status(library, "--cache", half_done)
    assert (said["done"], said["outstanding"]) == (0, 7)


def test_an_entry_of_fewer_frames_is_not_enough(library: Path, tmp_path: Path) -> None:
    cached(tmp_path / "cache", library / "0.mp4", sampling="fps=2")
    words = (library / "0.mp4", "--cache", tmp_path / "cache")
    assert status(*words)["outstanding"] == 1
    assert status(*words, "--fps", 2)["done"] == 1


def test_folders_of_images_are_recognised_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, shots = tmp_path / "cache", tmp_path / "film" / "shots"
    for number in range(3):
        add(shots / f"{number}.png", f"picture {number}")
    said = {"source_kind": "image-folder", "video_name": "shots", "video_sha256": sha256_of("shots"), "video_bytes": 27}
    put_entry(cache, 3, source_path=str(shots), **said)
    assert status(tmp_path / "film", "--cache", cache)["by_path"] == 1
    (tmp_path / "film").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved" / "shots")
    assert status(".", "--cache", cache)["by_name"] == 1
    add(Path("4.png"), "one more")
    assert status(".", "--cache", cache)["outstanding"] == 1


def test_sound_of_videos_without_any(library: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    sound = {"model": "clap:x", "source_kind": "audio"}
    path = cached(cache, library / "0.mp4", **sound)
    FailureLog(cache).append(replace(failure(library / "1.mp4", error=NO_AUDIO), model_dir=path.parent.parent.name))
    add(library / "a.wav", "sound")
    said = status(library, "--cache", cache, "--model", "clap")
    assert (said["done"], said["no_audio"], said["items"], said["problems"]) == (1, 1, 13, [])
    assert status(library, "--cache", cache, "--model", "clap", "--audio-hop", 5)["done"] == 0


def test_models_are_told_apart(library: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cached(cache, library / "0.mp4")
    cached(cache, library / "1.mp4", model="ViT-L/14", weights_sha256="ab" * 32)
    assert [one["model"] for one in status("--cache", cache)] == ["ViT-B-32-cdcdcdcd", "ViT-L-14-abababab"]
    refused = CliRunner().invoke(cli, ["cache", "status", str(library), "--cache", str(cache)])
    assert "holds ViT-B-32-cdcdcdcd, ViT-L-14-abababab; choose one with --model" in str(refused.exception)
    assert status(library, "--cache", cache, "--model", "ViT-L/14")["done"] == 1
    said = status(library, "--cache", cache, "--model", "RN50")
    assert (said["model"], said["outstanding"]) == (None, 12)


def test_before_the_first_run_everything_is_outstanding(library: Path, tmp_path: Path) -> None:
    said = status(library, "--cache", tmp_path / "cache", "--shards", 5)
    assert (said["outstanding"], said["array"]) == (12, "0,2-4")
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache" / MODEL_DIR).mkdir(parents=True)
    assert status(library, "--cache", tmp_path / "cache")["outstanding"] == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shards", "3"], "--shards and --hash are about inputs; name the library, as the runs do."),
        (["--hash"], "--shards and --hash are about inputs"),
        ([], "There is no feature cache at"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    cache = tmp_path / ("there" if words else "not-there")
    refused = CliRunner().invoke(cli, ["cache", "status", "--cache", str(cache), *words])
    assert said in str(refused.exception)


@pytest.mark.once
def test_the_shards_that_it_names_finish_the_work(tmp_path: Path, clipcache: Cli, tiny_weights: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(8):
        make_video(folder / f"{number}.mp4", frames=3 + number, size=(64, 48))
        os.utime(folder / f"{number}.mp4", (LONG_AGO, LONG_AGO))  # no checksum is remembered of what is new
    first = number_of("0.mp4", 5)
    assert clipcache(folder, "--shard", f"{first}/5").code == 0
    words = [folder, *extract_words(clipcache.cache_dir, tiny_weights)[1:7], "--shards", 5]
    before = status(*words)
    assert 0 < before["outstanding"] < 8
    named = numbers(before["array"])
    assert set(named) == {number_of(Path(path).name, 5) for path in before["outstanding_paths"]}
    assert first not in named
    for number in named:
        assert clipcache(folder, "--shard", f"{number}/5").code == 0
    after = status(*words)
    assert (after["done"], after["outstanding"], after["array"], after["by_checksum"]) == (8, 0, "", 8)


def numbers(array: str) -> list[int]:
    ends = [part.partition("-") for part in array.split(",")]
    return [number for first, _, last in ends for number in range(int(first), int(last or first) + 1)]


@pytest.mark.skipif(not (CHECKOUT / "docs").is_dir(), reason="the docs lie in the checkout")
def test_every_key_is_described(half_done: Path, library: Path) -> None:
    page = (CHECKOUT / "docs" / "cluster.md").read_text(encoding="utf-8")
    said = status(library, "--cache", half_done)
    keys = {*said, *said["problems"][0], *said["claims"][0]}
    assert {key for key in keys if f"`{key}`" not in page} == set()
