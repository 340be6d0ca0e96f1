"""Finding entries: by content, without opening them, and past bad ones."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import weakref
from pathlib import Path

import h5py
import pytest
from cache_entries import MODEL_DIR, put_entry
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import CacheError, EntryError, NotCachedError, UsageError
from clipcache.cache.common.hashing import folder_sha256, sha256_file
from clipcache.cache.entry import Entry
from clipcache.cache.format.sampling import Sampling

OTHER_MODEL = {"model": "ViT-L/14", "weights_sha256": "ab" * 32}


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "holiday.mp4"
    path.write_bytes(b"a video")
    return path


def test_a_missing_cache_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"clipcache extract VIDEO --cache '.*no such'"):
        FeatureCache(tmp_path / "no such")


def test_an_empty_cache_is_empty(cache_dir: Path, video: Path) -> None:
    cache_dir.mkdir()
    cache = FeatureCache(cache_dir)
    assert list(cache) == []
    assert len(cache) == 0
    assert cache.models() == []
    with pytest.raises(NotCachedError, match="no entries"):
        cache.get(video)


def test_moved_renamed_and_duplicate_videos_hit(cache_dir: Path, video: Path, tmp_path: Path) -> None:
    path = put_entry(cache_dir, video_sha256=sha256_file(video))
    (tmp_path / "sub").mkdir()
    duplicate = shutil.copyfile(video, tmp_path / "sub" / "copy.mp4")
    renamed = video.rename(tmp_path / "new name.mkv")
    cache = FeatureCache(cache_dir)
    assert {cache.get(duplicate).path, cache.get(renamed).path, cache.get(str(renamed)).path} == {path}


def test_a_changed_video_does_not_hit(cache_dir: Path, video: Path) -> None:
    put_entry(cache_dir, video_sha256=sha256_file(video))
    video.write_bytes(b"another video")
    with pytest.raises(NotCachedError, match=r"clipcache extract \S*holiday.mp4 --cache \S*features --model ViT-B-32"):
        FeatureCache(cache_dir).get(video)


def test_a_missing_video_is_a_usage_error(cache_dir: Path, video: Path) -> None:
    put_entry(cache_dir)
    with pytest.raises(UsageError, match="Cannot read"):
        FeatureCache(cache_dir).get(video.with_name("gone.mp4"))


def test_an_image_folder_is_found_by_its_images(cache_dir: Path, tmp_path: Path) -> None:
    burst = tmp_path / "burst"
    burst.mkdir()
    for name in ("2.jpg", "10.jpg"):
        (burst / name).write_bytes(name.encode())
    sha256 = folder_sha256(["2.jpg", "10.jpg"], [sha256_file(burst / "2.jpg"), sha256_file(burst / "10.jpg")])
    path = put_entry(cache_dir, source_kind="image-folder", video_sha256=sha256)
    assert FeatureCache(cache_dir).get(burst).path == path


def test_finding_opens_no_file(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [put_entry(cache_dir, video_sha256=f"{number}" * 64) for number in range(1, 4)]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an HDF5 file was opened")

    monkeypatch.setattr(h5py, "File", refuse)
    cache = FeatureCache(cache_dir)
    assert cache.find(MODEL_DIR, "2" * 64) in paths
    assert cache.find(MODEL_DIR, "9" * 64) is None
    assert cache.find("ViT-L-14-00000000", "2" * 64) is None
    assert [entry.path for entry in cache] == sorted(paths)
    assert [model.name for model in cache.models()] == [MODEL_DIR]


def test_find_gives_what_satisfies_and_no_more_than_needed(cache_dir: Path) -> None:
    sha256 = "12" * 32
    by_fps = put_entry(cache_dir, video_sha256=sha256, sampling="fps=4")
    by_count = put_entry(cache_dir, video_sha256=sha256, sampling="every=8")
    cache = FeatureCache(cache_dir)
    assert cache.find(MODEL_DIR, sha256) is None
    assert cache.find(MODEL_DIR, sha256, Sampling(fps=2)) == by_fps
    assert cache.find(MODEL_DIR, sha256, Sampling(fps=3)) is None
    assert cache.find(MODEL_DIR, sha256, Sampling(every=16)) == by_count
    everything = put_entry(cache_dir, video_sha256=sha256, complete=False, frames_expected=99)
    assert cache.find(MODEL_DIR, sha256) is None, "the listing is taken once"
    cache.refresh()
    assert cache.find(MODEL_DIR, sha256) == everything
    assert cache.find(MODEL_DIR, sha256, Sampling(fps=2)) == by_fps


def test_get_prefers_most_frames(cache_dir: Path, video: Path) -> None:
    sha256 = sha256_file(video)
    put_entry(cache_dir, video_sha256=sha256, sampling="every=8")
    faster = put_entry(cache_dir, video_sha256=sha256, sampling="fps=4")
    put_entry(cache_dir, video_sha256=sha256, sampling="fps=3")
    assert FeatureCache(cache_dir).get(video).path == faster


def test_several_models_ask_which(cache_dir: Path, video: Path) -> None:
    sha256 = sha256_file(video)
    small = put_entry(cache_dir, video_sha256=sha256)
    large = put_entry(cache_dir, video_sha256=sha256, **OTHER_MODEL)
    cache = FeatureCache(cache_dir)
    with pytest.raises(UsageError, match=r"ViT-B-32-cdcdcdcd, ViT-L-14-abababab.*--model"):
        cache.get(video)
    for name in ("ViT-B/32", "ViT-B-32", MODEL_DIR):
        assert cache.get(video, model=name).path == small
        assert [entry.path for entry in cache.entries(name)] == [small]
    assert cache.get(video, model="ViT-L/14").path == large
    with pytest.raises(NotCachedError, match="RN50"):
        cache.get(video, model="RN50")
    assert {entry.path for entry in cache} == {small, large}


def test_one_name_with_two_weights_asks_which(cache_dir: Path, video: Path) -> None:
    put_entry(cache_dir)
    put_entry(cache_dir, weights_sha256="ef" * 32)
    with pytest.raises(UsageError, match="ViT-B-32-cdcdcdcd, ViT-B-32-efefefef"):
        FeatureCache(cache_dir).model("ViT-B/32")


def test_a_folder_of_references_alone_is_no_model(cache_dir: Path) -> None:
    put_entry(cache_dir)
    (cache_dir / "ViT-L-14-abababab" / "references" / "ab").mkdir(parents=True)
    assert FeatureCache(cache_dir).model().slug == "ViT-B-32"


def test_a_bad_entry_does_not_stop_the_others(cache_dir: Path) -> None:
    paths = [put_entry(cache_dir, video_sha256=f"{number}" * 64) for number in (1, 2, 3)]
    paths[1].write_bytes(b"damaged")
    told: list[tuple[Path, EntryError]] = []
    entries = list(FeatureCache(cache_dir).iter_entries(lambda path, error: told.append((path, error))))
    assert [entry.path for entry in entries] == [paths[0], paths[2]]
    assert [path for path, _ in told] == [paths[1]]
    assert "not an HDF5 file" in str(told[0][1])


def test_entries_gone_through_are_not_kept(cache_dir: Path) -> None:
    for number in range(1, 6):
        put_entry(cache_dir, video_sha256=f"{number}" * 64)
    cache = FeatureCache(cache_dir)

    def refuse(path: Path, error: EntryError) -> None:
        raise error

    for entries in (iter(cache), cache.iter_entries(refuse)):
        seen: list[weakref.ref[Entry]] = []
        for entry in entries:
            assert len(entry.timestamps_ms)
            seen.append(weakref.ref(entry))
            assert sum(one() is not None for one in seen) <= 2, "this one, and while it was made the one before"
        assert len(seen) == 5


def test_a_name_that_is_too_long_is_one_sentence(cache_dir: Path) -> None:
    put_entry(cache_dir)
    with pytest.raises(CacheError, match="There is no feature cache"):
        FeatureCache(cache_dir / ("x" * 300))
    with pytest.raises(UsageError, match="Cannot read"):
        FeatureCache(cache_dir).get(cache_dir / ("x" * 300))


def test_strangers_in_the_cache_are_not_entries(cache_dir: Path) -> None:
    path = put_entry(cache_dir)
    (cache_dir / "notes.h5").write_text("")
    (path.parent / "notes.h5").write_text("")
    (path.parent / ".clipcache-host.tmp-1-ab").write_text("")
    (path.parent.parent / "references").mkdir()
    misplaced = path.parent.parent / "00"
    misplaced.mkdir()
    shutil.copyfile(path, misplaced / path.name)
    cache = FeatureCache(cache_dir)
    assert [entry.path for entry in cache] == [path]
    assert cache.files() == sorted([path, path.parent / "notes.h5", misplaced / path.name])


def test_a_folder_that_cannot_be_listed_is_one_sentence(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_entry(cache_dir)
    real = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder) == path.parent:
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    for call in (FeatureCache(cache_dir).entries, FeatureCache(cache_dir).files):
        with pytest.raises(CacheError, match=r"Cannot list .* \(Permission denied\)"):
            call()


def test_the_version_is_that_of_the_distribution() -> None:
    from clipcache import cache

    assert cache.__version__ == importlib.metadata.version("clipcache")
