"""Cached features as a dataset of clips, as one array, and as a table."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_entries import DIM, put_entry, sha256_of
from checkout import CHECKOUT
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import UsageError
from clipcache.cache.pack import pack
from demo_library import DemoLibrary
from torch.utils.data import default_collate

EXAMPLE = CHECKOUT / "docs" / "examples" / "linear_probe.py"


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """Videos of 50, 7 and 3 frames, 25 a second."""
    for name, frames in (("a", 50), ("b", 7), ("c", 3)):
        put_entry(tmp_path / "features", frames, seed=frames, video_name=f"{name}.mp4", video_sha256=sha256_of(name))
    return FeatureCache(tmp_path / "features")


def entry_of(cache: FeatureCache, name: str) -> Entry:
    return next(entry for entry in cache if entry.video_name == name)


def test_clips_are_windows_of_consecutive_frames(cache: FeatureCache) -> None:
    clips = cache.to_dataset(window=5, stride=2)
    assert len(clips) == 23 + 2 + 0  # (50 - 5) // 2 + 1, (7 - 5) // 2 + 1, too short
    last = clips[22]
    assert (last.video_name, last.frame_index.tolist()) == ("a.mp4", [44, 45, 46, 47, 48])
    assert last.timestamps_ms.tolist() == [44 * 40.0, 45 * 40.0, 46 * 40.0, 47 * 40.0, 48 * 40.0]
    assert last.features.dtype == torch.float32
    np.testing.assert_array_equal(last.features, entry_of(cache, "a.mp4").features[44:49])
    assert clips[23].video_name == "b.mp4"
    assert clips[-1].frame_index.tolist() == [2, 3, 4, 5, 6]


def test_a_rate_takes_the_frames_that_a_slice_takes(cache: FeatureCache) -> None:
    clips = cache.to_dataset(window=2, fps=5)
    np.testing.assert_array_equal(clips[1].features, entry_of(cache, "a.mp4").slice(fps=5).features[2:4])


LOADING = """
import sys
import numpy as np
import torch
from clipcache.cache import FeatureCache
from torch.utils.data import DataLoader

def features_of(clip):
    return clip.features

if __name__ == "__main__":
    clips = FeatureCache(sys.argv[1]).to_dataset(window=4, stride=4, transform=features_of)
    loader = DataLoader(clips, batch_size=3, num_workers=2, multiprocessing_context="spawn")
    np.save(sys.argv[2], torch.cat(list(loader)).numpy())
"""


def test_loading_processes_share_it(cache: FeatureCache, tmp_path: Path) -> None:
    """In a program of its own: Python's tracker of shared memory outlives the loader."""
    (tmp_path / "loading.py").write_text(LOADING)
    clips = cache.to_dataset(window=4, stride=4)
    command = [sys.executable, tmp_path / "loading.py", cache.directory, tmp_path / "loaded.npy"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    loaded = np.load(tmp_path / "loaded.npy")
    assert loaded.shape == (len(clips), 4, DIM)
    np.testing.assert_array_equal(loaded[0], entry_of(cache, "a.mp4").features[:4])


def test_it_can_be_pickled(cache: FeatureCache) -> None:
    clips = pickle.loads(pickle.dumps(cache.to_dataset(window=4)))  # noqa: S301
    np.testing.assert_array_equal(clips[0].features, entry_of(cache, "a.mp4").features[:4])


def test_clips_become_batches_without_a_transform(cache: FeatureCache) -> None:
    clips = cache.to_dataset(window=4)
    batch = default_collate([clips[0], clips[1], clips[2]])  # what a DataLoader does
    assert batch.features.shape == (3, 4, DIM)
    assert batch.timestamps_ms[1].tolist() == [160.0, 200.0, 240.0, 280.0]
    assert list(batch.video_name) == ["a.mp4"] * 3


def test_items_beyond_the_end_are_no_items(cache: FeatureCache) -> None:
    clips = cache.to_dataset(window=5)
    with pytest.raises(IndexError):
        clips[len(clips)]
    with pytest.raises(UsageError, match="1 frame or more"):
        cache.to_dataset(window=0)


def test_all_frames_come_as_one_array_with_offsets(cache: FeatureCache, tmp_path: Path) -> None:
    features, offsets = cache.frames()
    assert offsets.tolist() == [0, 50, 57, 60]
    np.testing.assert_array_equal(features[50:57], entry_of(cache, "b.mp4").features)
    pack(cache, tmp_path / "library.h5", lambda _, error: pytest.fail(str(error)))
    mapped, same_offsets = FeatureCache(tmp_path / "library.h5").frames()
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, features)
    np.testing.assert_array_equal(same_offsets, offsets)


def test_the_table_has_one_row_a_frame(cache: FeatureCache) -> None:
    pandas = pytest.importorskip("pandas")
    assert FeatureCache.to_dataframe.__annotations__["return"] == "DataFrame"  # and not Any, for type checkers
    table = cache.to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["video_name", "video_sha256", "frame_index", "timestamp_ms"]
    assert table.groupby("video_name").size().to_dict() == {"a.mp4": 50, "b.mp4": 7, "c.mp4": 3}
    assert table.timestamp_ms[49] == 49 * 40.0


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="the docs lie in the checkout")
def test_the_example_learns_what_the_demo_shows(demo_library: DemoLibrary) -> None:
    spec = importlib.util.spec_from_file_location("linear_probe", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(demo_library.folder.parent) > 0.9  # one of four things: 0.25 by chance
