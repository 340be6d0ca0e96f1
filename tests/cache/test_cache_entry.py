"""What goes into an entry comes out of it, whole or in slices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_entries import DIM, FRAMES, MODEL_DIR, make_attributes, make_features, put_entry
from clipcache.cache.common.errors import ContentError, EntryError, UsageError
from clipcache.cache.entry import Entry
from clipcache.cache.format.schema import EntryAttributes
from clipcache.cache.format.write import write_entry


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_round_trip(tmp_path: Path, dtype: type) -> None:
    features = make_features().astype(dtype)
    timestamps = np.arange(FRAMES) * 40.0 + 0.123
    index = np.arange(FRAMES) + 3
    blur = np.linspace(0, 1, FRAMES, dtype=np.float32)
    path = write_entry(tmp_path, make_attributes(), features, timestamps, index, quality={"blur": blur})
    entry = Entry(path)
    assert entry.features.dtype == dtype
    np.testing.assert_array_equal(entry.features, features)
    np.testing.assert_array_equal(entry.timestamps_ms, timestamps)
    np.testing.assert_array_equal(entry.frame_index, index)
    np.testing.assert_array_equal(entry.quality["blur"], blur)
    assert entry.frame_names is None
    assert len(entry) == FRAMES
    assert entry.model_dir == MODEL_DIR
    assert entry.attributes == make_attributes()


def test_every_attribute_is_one_of_the_entry_too(tmp_path: Path) -> None:
    entry = Entry(put_entry(tmp_path))
    for field in dataclasses.fields(EntryAttributes):
        assert getattr(entry, field.name) == getattr(make_attributes(), field.name)


def test_attributes_are_plain_for_other_tools(tmp_path: Path) -> None:
    with h5py.File(put_entry(tmp_path, video_name="żółw.mp4")) as file:
        assert file.attrs["video_name"] == "żółw.mp4"
        assert file.attrs["fps"] == 25.0
        assert file.attrs["complete"].dtype == np.bool_
        assert file["features"].chunks == (FRAMES, DIM)
        assert file["features"].fletcher32


def test_frame_names_keep_order_and_odd_characters(tmp_path: Path) -> None:
    names = ["a 1.jpg", "żółw.png", b"\xe9.jpg".decode("utf-8", "surrogateescape")]
    path = write_entry(
        tmp_path,
        make_attributes(source_kind="image-folder", fps=0.0, frames_decoded=3, frames_expected=3),
        make_features(3),
        np.zeros(3),
        np.arange(3),
        frame_names=names,
    )
    assert Entry(path).frame_names == ["a 1.jpg", "żółw.png", "\\xe9.jpg"]
    assert Entry(path).slice(every=2).frame_names == ["a 1.jpg", "\\xe9.jpg"]
    assert len(Entry(path).slice(fps=1, start=5)) == 3, "images have no clock"


def test_slices_are_rows_of_the_whole(tmp_path: Path) -> None:
    features = make_features(3000)
    times = np.arange(3000) * 40.0
    attributes = make_attributes(frames_decoded=3000, frames_expected=3000)
    quality = {"blur": np.arange(3000, dtype=np.float32)}
    entry = Entry(write_entry(tmp_path, attributes, features, times, np.arange(3000), quality=quality))
    by_fps = np.arange(0, 3000, 5)
    cases = {
        "fps": (entry.slice(fps=5), by_fps),
        "every": (entry.slice(every=7), np.arange(0, 3000, 7)),
        "range": (entry.slice(start=1.0, end=2.0), np.arange(25, 50)),
        "fps in range": (entry.slice(fps=5, start=1.1, end=100.0), by_fps[(by_fps >= 28) & (by_fps < 2500)]),
        "slice of a slice": (entry.slice(fps=5).slice(start=10.0).slice(fps=1), np.arange(250, 3000, 25)),
        "nothing": (entry.slice(start=500.0), np.arange(0)),
    }
    for name, (view, rows) in cases.items():
        np.testing.assert_array_equal(view.features, features[rows], err_msg=name)
        np.testing.assert_array_equal(view.timestamps_ms, times[rows], err_msg=name)
        np.testing.assert_array_equal(view.frame_index, rows, err_msg=name)
        np.testing.assert_array_equal(view.quality["blur"], quality["blur"][rows], err_msg=name)
        blocks = [block for block in view.iter_features(100) if len(block)]
        np.testing.assert_array_equal(np.concatenate([features[:0], *blocks]), features[rows], err_msg=name)
        assert all(len(block) <= 100 for block in blocks)
    assert len(entry) == 3000, "a slice leaves its entry alone"


@pytest.mark.parametrize("start", [0.12, 0.16])
def test_a_slice_keeps_the_clock_of_its_entry(tmp_path: Path, start: float) -> None:
    entry = Entry(put_entry(tmp_path))  # 25 frames a second: ticks of a tenth begin with frames 0, 3, 5, 8, 10 ...
    whole = entry.slice(fps=10)
    assert whole.frame_index.tolist()[:5] == [0, 3, 5, 8, 10]
    expected = [index for index in whole.frame_index.tolist() if index * 0.04 >= start - 1e-9]
    assert entry.slice(start=start).slice(fps=10).frame_index.tolist() == expected
    assert entry.slice(fps=10, start=start).frame_index.tolist() == expected
    assert entry.slice(start=start).zero_ms == entry.zero_ms == 0


def test_frames_are_taken_by_position(tmp_path: Path) -> None:
    features = make_features()
    view = Entry(put_entry(tmp_path)).slice(every=2).take(np.array([0, 3, 4]))
    np.testing.assert_array_equal(view.features, features[[0, 6, 8]])
    assert view.frame_index.tolist() == [0, 6, 8]
    assert view.sampling == "every=2"


def test_a_slice_says_its_sampling(tmp_path: Path) -> None:
    entry = Entry(put_entry(tmp_path))
    assert entry.slice(fps=2).sampling == "fps=2"
    assert entry.slice(start=1.0).sampling == "all"
    assert entry.sampling == "all"


def test_every_counts_frames_of_the_video_even_if_some_are_lost(tmp_path: Path) -> None:
    index = np.array([0, 1, 4, 5, 6, 8, 9])
    attributes = make_attributes(complete=False, frames_decoded=7, frames_expected=10)
    path = write_entry(tmp_path, attributes, make_features(7), index * 40.0, index)
    assert Entry(path).slice(every=4).frame_index.tolist() == [0, 4, 8]


def test_a_sampled_entry_gives_no_frames_it_does_not_hold(tmp_path: Path) -> None:
    entry = Entry(put_entry(tmp_path, sampling="every=4"))
    with pytest.raises(UsageError, match="extract the video again"):
        entry.slice(every=6)
    with pytest.raises(UsageError, match="fps=1 cannot be taken"):
        entry.slice(fps=1)


def test_an_entry_may_be_removed_while_it_is_known(tmp_path: Path) -> None:
    entry = Entry(put_entry(tmp_path))
    entry.path.unlink()
    with pytest.raises(EntryError, match="cannot be read"):
        _ = entry.features


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"features": np.zeros((50, 4), np.float16)}, "shape"),
        ({"features": np.zeros((50, 8), np.float64)}, "float64"),
        ({"features": np.full((50, 8), np.nan, np.float16)}, "features that are not finite"),
        ({"features": np.where(np.arange(50)[:, None] == 7, 0, make_features())}, "gave features that no model gives"),
        ({"features": np.full((50, 8), 1e6, np.float32)}, "gave features that no model gives"),
        ({"timestamps_ms": np.arange(49) * 1.0}, "timestamps_ms"),
        ({"timestamps_ms": -np.arange(50) * 1.0}, "decrease"),
        ({"timestamps_ms": np.full(50, np.inf)}, "not finite"),
        ({"timestamps_ms": np.arange(50) * 1e9}, "100 days"),
        ({"frame_index": np.zeros(50, np.int64)}, "frame_index"),
        ({"frame_names": ["a"]}, "frame_names"),
        ({"quality": {"../x": np.zeros(50, np.float32)}}, "letters"),
        (
            {
                "features": np.zeros((0, 8), np.float16),
                "timestamps_ms": np.zeros(0),
                "frame_index": np.zeros(0, np.int64),
            },
            "no frame",
        ),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path: Path, arrays: dict[str, object], sentence: str) -> None:
    good = {"features": make_features(), "timestamps_ms": np.arange(50) * 40.0, "frame_index": np.arange(50)}
    with pytest.raises(ContentError, match=sentence):
        write_entry(tmp_path, make_attributes(), **(good | arrays))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"fps": "25"},
        {"width": 3.5},
        {"complete": 1},
        {"height": True},
        {"codec": 3},
        {"codec": "x" * 5000},
    ],
)
def test_attributes_are_typed(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ContentError, match=next(iter(change))):
        put_entry(tmp_path, **change)
