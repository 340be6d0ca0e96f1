"""Merging caches and pruning what has no video any more."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cache_entries import put_entry, put_v1_entry, sha256_of
from click.testing import CliRunner, Result
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import CacheError, UsageError
from clipcache.cache.common.hashing import DigestMemo, content_sha256
from clipcache.cache.format.write import write_entry
from clipcache.cli import cli


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["cache", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def names(cache: Path) -> list[str]:
    return [entry.video_name for entry in FeatureCache(cache)]


def test_the_same_content_is_there_once(tmp_path: Path) -> None:
    put_entry(tmp_path / "a", video_name="one.mp4", video_sha256=sha256_of("one"))
    put_entry(tmp_path / "a", video_name="two.mp4", video_sha256=sha256_of("two"))
    put_entry(tmp_path / "b", video_name="again.mp4", video_sha256=sha256_of("two"))
    put_entry(tmp_path / "b", video_name="three.mp4", video_sha256=sha256_of("three"))
    result = run("merge", tmp_path / "a", tmp_path / "b", "--into", tmp_path / "c")
    assert result.stdout.startswith("3 entries written")
    assert sorted(names(tmp_path / "c")) == ["one.mp4", "three.mp4", "two.mp4"]


@pytest.mark.parametrize("order", [("part", "whole"), ("whole", "part")])
def test_the_fuller_entry_wins(tmp_path: Path, order: tuple[str, str]) -> None:
    put_entry(tmp_path / "part", 30, seed=1, complete=False, frames_expected=50)
    whole = put_entry(tmp_path / "whole", 50, seed=2)
    run("merge", *(tmp_path / name for name in order), "--into", tmp_path / "c")
    (entry,) = FeatureCache(tmp_path / "c")
    assert entry.features.tobytes() == Entry(whole).features.tobytes()


@pytest.mark.parametrize("order", [("plain", "measured"), ("measured", "plain")])
def test_measures_are_not_lost(tmp_path: Path, order: tuple[str, str]) -> None:
    plain = Entry(put_entry(tmp_path / "plain"))
    arrays = (plain.features, plain.timestamps_ms, plain.frame_index)
    sharpness = np.arange(len(plain), dtype=np.float32)
    write_entry(tmp_path / "measured", plain.attributes, *arrays, quality={"sharpness": sharpness})
    run("merge", *(tmp_path / name for name in order), "--into", tmp_path / "c")
    (entry,) = FeatureCache(tmp_path / "c")
    np.testing.assert_array_equal(entry.quality["sharpness"], sharpness)


def test_a_sampled_entry_adds_nothing_to_a_whole_one(tmp_path: Path) -> None:
    put_entry(tmp_path / "a", 50)
    put_entry(tmp_path / "b", 5, sampling="every=10", frames_expected=50)
    run("merge", tmp_path / "b", tmp_path / "a", "--into", tmp_path / "c")
    (entry,) = FeatureCache(tmp_path / "c")
    assert (entry.sampling, len(entry)) == ("all", 50)


def test_other_weights_are_other_entries(tmp_path: Path) -> None:
    put_entry(tmp_path / "a")
    put_entry(tmp_path / "b", weights_sha256="ab" * 32)
    run("merge", tmp_path / "a", tmp_path / "b", "--into", tmp_path / "c")
    assert len(FeatureCache(tmp_path / "c")) == 2


def test_merging_into_a_file_is_refused(tmp_path: Path) -> None:
    put_entry(tmp_path / "a")
    (tmp_path / "c.h5").write_bytes(b"")
    with pytest.raises(UsageError, match="merge into a folder"):
        run("merge", tmp_path / "a", "--into", tmp_path / "c.h5")


def put_videos(folder: Path, *contents: str) -> None:
    folder.mkdir(exist_ok=True)
    for content in contents:
        (folder / f"{content}.mp4").write_bytes(content.encode())


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture
def pruned(tmp_path: Path, user_cache: Path) -> Path:
    put_videos(tmp_path / "videos", "here", "moved")
    for content in ("here", "moved", "gone"):
        put_entry(tmp_path / "features", video_name=f"{content}.mp4", video_sha256=sha256(content))
    (tmp_path / "videos" / "moved.mp4").rename(tmp_path / "videos" / "renamed.mp4")
    return tmp_path / "features"


def test_prune_lists_and_removes_nothing_by_itself(pruned: Path, tmp_path: Path) -> None:
    result = run("prune", "--cache", pruned, "--videos", tmp_path / "videos")
    assert result.stdout.splitlines()[0].startswith("gone.mp4")
    assert "would be removed" in result.stdout
    assert len(FeatureCache(pruned)) == 3


def test_prune_removes_what_is_gone_when_told(pruned: Path, tmp_path: Path) -> None:
    run("prune", "--cache", pruned, "--videos", tmp_path / "videos", "--delete")
    assert sorted(names(pruned)) == ["here.mp4", "moved.mp4"]
    assert "nothing to remove" in run("prune", "--cache", pruned, "--videos", tmp_path / "videos").stdout


@pytest.mark.parametrize("suffix", [".flac", ".m4a", ".mp3", ".ogg", ".wav"])
def test_sound_in_the_folder_is_no_orphan(pruned: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "videos" / f"song{suffix}").write_bytes(b"song")
    put_entry(pruned, video_name="a.wav", video_sha256=sha256("song"), source_kind="audio", fps=0.1)
    run("prune", "--cache", pruned, "--videos", tmp_path / "videos", "--delete")
    assert sorted(names(pruned)) == ["a.wav", "here.mp4", "moved.mp4"]


def test_a_target_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    put_entry(tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="Cannot make the folder"):
        run("merge", tmp_path / "a", "--into", tmp_path / "file" / "c")


def test_imported_entries_are_never_pruned(pruned: Path, tmp_path: Path) -> None:
    put_entry(pruned, video_name="lent.mp4", video_sha256=sha256("lent"), decoder="imported: numpy triple")
    run("prune", "--cache", pruned, "--videos", tmp_path / "videos", "--delete")
    assert "lent.mp4" in names(pruned)


def put_pictures(folder: Path) -> str:
    """A folder of two images; gives its hash."""
    folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
    return content_sha256(folder, DigestMemo())


@pytest.mark.parametrize("put", [put_v1_entry, put_entry])
@pytest.mark.parametrize("is_hashed_here", [True, False])
def test_an_image_folder_elsewhere_is_no_orphan(
    pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Any, is_hashed_here: bool
) -> None:
    folder = tmp_path / "elsewhere" / "burst é"
    made = {"source_kind": "image-folder", "video_name": "burst é", "video_bytes": 10}
    path = put(pruned, video_sha256=put_pictures(folder), source_path=str(folder), **made)
    if not is_hashed_here:
        monkeypatch.setenv("CLIPCACHE_MEMO", str(tmp_path / "other memo"))
    arguments = ("prune", "--cache", pruned, "--videos", tmp_path / "videos")
    is_known = is_hashed_here or put is put_entry  # version 1 does not say where a folder was
    assert (path.name in run(*arguments).stdout) is not is_known
    (folder / "b.png").write_bytes(b"other")
    assert path.name in run(*arguments).stdout


def test_a_video_where_it_was_extracted_is_no_orphan(pruned: Path, tmp_path: Path) -> None:
    video = tmp_path / "elsewhere.mp4"
    video.write_bytes(b"gone")
    put_entry(pruned, video_name="gone.mp4", video_sha256=sha256("gone"), video_bytes=4, source_path=str(video))
    arguments = ("prune", "--cache", pruned, "--videos", tmp_path / "videos")
    assert "nothing to remove" in run(*arguments).stdout
    os.truncate(video, 3)
    assert "gone.mp4" in run(*arguments).stdout


@pytest.mark.parametrize("place", ["/dev/zero", "https://example.org/gone.mp4", "pipe", "large"])
def test_a_path_that_only_pretends_is_not_read(pruned: Path, tmp_path: Path, place: str) -> None:
    """Somebody else's cache may name any path as that of its videos."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    path = str(tmp_path / place) if "/" not in place else place
    put_entry(pruned, video_name="gone.mp4", video_sha256=sha256("gone"), video_bytes=4, source_path=path)
    assert "gone.mp4" in run("prune", "--cache", pruned, "--videos", tmp_path / "videos").stdout


def test_a_folder_that_is_not_there_is_refused_before_anything_is_removed(pruned: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        run("prune", "--cache", pruned, "--videos", tmp_path / "typo", "--delete")
    assert len(FeatureCache(pruned)) == 3


def test_merged_features_are_the_same_bytes(tmp_path: Path) -> None:
    source = Entry(put_entry(tmp_path / "a", seed=3))
    run("merge", tmp_path / "a", "--into", tmp_path / "c")
    (entry,) = FeatureCache(tmp_path / "c")
    np.testing.assert_array_equal(entry.features, source.features)
    assert entry.attributes == source.attributes
