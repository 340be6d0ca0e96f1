"""Single frames by their timestamps: exactly the frame that the index has there, for every synthetic video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from clipcache.cache.common.errors import MediaError
from clipcache.extract.video import frames_at as frames_at_module
from clipcache.extract.video.frames_at import frames_at
from clipcache.extract.video.index import read_index
from media import CLOSED_GOP, SYNTHETIC, VideoTruth, make_video, read_barcode
from PIL import Image

CASES = [case.name for case in SYNTHETIC if case.name != "long_gop"]


@pytest.mark.parametrize("name", CASES)
def test_each_time_gives_its_own_frame(name: str, synthetic_video: Callable[[str], VideoTruth]) -> None:
    truth = synthetic_video(name)
    rows = sorted({0, len(truth.numbers) // 3, len(truth.numbers) // 2, len(truth.numbers) - 1})
    times = read_index(truth.path).times_ms
    assert times is not None
    asked = rows[::-1]  # in any order
    found = dict(frames_at(truth.path, [float(times[row]) for row in asked]))
    assert sorted(found) == list(range(len(asked)))
    for position, rgb in found.items():
        assert rgb.shape == (truth.height, truth.width, 3)
        assert rgb.dtype == np.uint8
        assert read_barcode(rgb) == truth.numbers[asked[position]]


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> VideoTruth:
    return make_video(tmp_path_factory.mktemp("long") / "long.mp4", frames=400, size=(64, 48), options=CLOSED_GOP)


def test_only_the_segments_needed_are_decoded(long_video: VideoTruth, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    whole = frames_at_module.decode_picked

    def count(path: Path, index: object, span: object, *rest: object, **how: object) -> object:
        decoded.append(span)
        return whole(path, index, span, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(frames_at_module, "decode_picked", count)
    times = [long_video.timestamps_ms[row] for row in (390, 10, 12)]
    assert [read_barcode(rgb) for _, rgb in frames_at(long_video.path, times)] == [10, 12, 390]
    assert len(read_index(long_video.path).segments) > 2
    assert len(decoded) == 4  # the proof of the first cut, and three groups of twelve


def test_many_frames_come_in_portions(long_video: VideoTruth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_at_module, "_FRAMES_AT_ONCE", 3)
    times = list(long_video.timestamps_ms[5:15])
    assert [(n, read_barcode(rgb)) for n, rgb in frames_at(long_video.path, times)] == [(n, n + 5) for n in range(10)]


def test_one_time_may_be_asked_twice(long_video: VideoTruth) -> None:
    times = [long_video.timestamps_ms[row] for row in (7, 3, 7)]
    assert [(n, read_barcode(rgb)) for n, rgb in frames_at(long_video.path, times)] == [(1, 3), (0, 7), (2, 7)]


def test_a_time_without_a_frame_is_refused(long_video: VideoTruth) -> None:
    with pytest.raises(MediaError, match="shows no frame at 41 ms; it is not what was extracted"):
        list(frames_at(long_video.path, [40.0, 41.0]))


def test_a_stream_without_times_is_counted_as_extraction_counts(tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    make_video(path, frames=60, options=CLOSED_GOP, container="h264")
    index = read_index(path)
    found = {n: read_barcode(rgb) for n, rgb in frames_at(path, [0.0, 1000.0 * 30 / index.fps])}
    assert found == {0: 0, 1: 30}


def test_pixels_are_those_that_a_plain_decode_gives(test_data: Path) -> None:
    path = test_data / "videos" / "nasa_13013_rotated.mp4"
    times = read_index(path).times_ms
    assert times is not None
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    ((_, rgb),) = frames_at(path, [float(times[11])])
    np.testing.assert_array_equal(rgb, np.rot90(plain[11], read_index(path).rotation // 90))


def test_an_image_shows_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    ((position, rgb),) = frames_at(path, [0.0])
    assert position == 0
    np.testing.assert_array_equal(rgb, pixels)
