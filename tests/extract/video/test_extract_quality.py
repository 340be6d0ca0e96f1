"""The rule-based measures: their definitions in plain numpy, and their way from the frame into the entry."""

from __future__ import annotations

from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from clipcache.cache import Entry, FeatureCache
from clipcache.demo.library import LIBRARY, SIZE
from clipcache.demo.scenes import render
from clipcache.extract.prepare import find_cached
from clipcache.extract.run import ExtractOptions
from clipcache.extract.video import pixel_measures
from clipcache.extract.video.collector import FrameCollector
from clipcache.extract.video.pixel_measures import NAMES, FrameQuality, by_name, measure
from extract_runs import Cli
from PIL import Image, ImageFilter
from video_files import make_video

Rgb = np.ndarray


def expected_of(rgb: Rgb) -> dict[str, float]:
    """Every measure by its definition, on the whole picture in float64."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    luma = np.floor((red * 19595 + green * 38470 + blue * 7471) / 65536 + 0.5)  # BT.601, rounded
    around = np.pad(luma, 1, mode="reflect")
    laplacian = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * luma
    share = np.unique(luma, return_counts=True)[1] / luma.size
    rg, yb = red - green, (red + green) / 2 - blue
    measures = {
        "sharpness": laplacian.var(),
        "contrast": luma.std() / 255,
        "clipped": ((luma <= 2) | (luma >= 253)).mean(),
        "entropy": -(share * np.log2(share)).sum(),
        "colourfulness": np.sqrt(rg.std() ** 2 + yb.std() ** 2) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2),
        "brightness": luma.mean() / 255,
    }
    measures["composite"] = (
        0.35 * measures["sharpness"] / (measures["sharpness"] + 100)
        + 0.20 * measures["contrast"] / 0.5
        + 0.20 * (1 - measures["clipped"]) * measures["entropy"] / 8
        + 0.15 * min(measures["colourfulness"] / 109, 1)
        + 0.10 * (1 - abs(2 * measures["brightness"] - 1))
    )
    return measures


def noise(height: int, width: int, seed: int = 0) -> Rgb:
    """Coarse blocks in colour with some fine noise, a fifth of it clipped."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(-40, 300, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.clip(blocks + rng.integers(-9, 10, blocks.shape), 0, 255).astype(np.uint8)


def grey(levels: np.ndarray) -> Rgb:
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)


# --- definitions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (37, 53), (3, 9000), (700, 301)])
@pytest.mark.parametrize("band", [1 << 6, pixel_measures._BAND_PIXELS])
def test_each_measure_is_what_its_definition_says(
    shape: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_measures, "_BAND_PIXELS", band)
    rgb = noise(*shape)
    found = dict(zip(NAMES, measure(rgb).as_row(), strict=True))
    assert found == pytest.approx(expected_of(rgb), rel=1e-5, abs=1e-6)


def test_a_checkerboard_is_as_sharp_and_contrasty_as_can_be() -> None:
    found = measure(grey(np.indices((20, 30)).sum(axis=0) % 2 * 255))
    assert found.sharpness == 1020.0**2
    assert (found.contrast, found.clipped, found.entropy) == (0.5, 1.0, 1.0)
    assert (found.colourfulness, found.brightness) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("colour", "colourfulness", "brightness", "clipped"),
    [
        ((0, 0, 0), 0.0, 0.0, 1.0),
        ((255, 255, 255), 0.0, 1.0, 1.0),
        ((128, 128, 128), 0.0, 128 / 255, 0.0),
        ((255, 0, 0), 0.3 * np.hypot(255, 127.5), 76 / 255, 0.0),
        ((0, 0, 255), 0.3 * 255, 29 / 255, 0.0),
    ],
)
def test_one_colour_has_no_detail(
    colour: tuple[int, int, int], colourfulness: float, brightness: float, clipped: float
) -> None:
    found = measure(np.full((300, 400, 3), colour, np.uint8))
    assert (found.sharpness, found.contrast, found.entropy) == (0.0, 0.0, 0.0)
    assert found.colourfulness == pytest.approx(colourfulness)
    assert found.brightness == pytest.approx(brightness)
    assert found.clipped == clipped


def test_entropy_is_greatest_where_all_levels_are_alike() -> None:
    found = measure(grey(np.arange(256).reshape(16, 16)))
    assert found.entropy == pytest.approx(8.0)
    assert found.clipped == pytest.approx(6 / 256)  # 0, 1, 2 and 253, 254, 255


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_a_frame_changes_nothing(turns: int) -> None:
    rgb = noise(120, 77)
    turned = measure(np.ascontiguousarray(np.rot90(rgb, turns))).as_row()
    np.testing.assert_allclose(turned, measure(rgb).as_row(), rtol=1e-6)


def test_the_composite_lies_between_0_and_1() -> None:
    assert sum(pixel_measures.WEIGHTS.values()) == pytest.approx(1.0)
    assert FrameQuality(0.0, 0.0, 1.0, 0.0, 0.0, 0.0).composite == 0.0
    best = FrameQuality(
        sharpness=1e12, contrast=0.5, clipped=0.0, entropy=8.0, colourfulness=300.0, brightness=0.5
    ).composite
    assert best == pytest.approx(1.0)


# --- meaning ---------------------------------------------------------------------------------------------


def test_the_demo_pictures_are_told_apart() -> None:
    (shots,) = (video.shots for video in LIBRARY if video.name == "qualities.mp4")
    found = {shot.caption: measure(render(shot.scene, SIZE)) for shot in shots}
    sharp = found["a sharp photo"]
    assert found["a blurry photo"].sharpness < 0.1 * sharp.sharpness
    assert found["a noisy photo"].sharpness > sharp.sharpness
    assert found["a dark photo"].brightness < 0.5 * sharp.brightness
    assert found["a black and white photo"].colourfulness < 0.05 * sharp.colourfulness
    assert found["a blurry photo"].composite < sharp.composite
    assert found["a dark photo"].composite < sharp.composite


def test_blur_and_loss_of_contrast_lower_the_composite() -> None:
    rgb = noise(240, 320)
    blurred = np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(3)))
    flat = (rgb // 4 + 96).astype(np.uint8)
    assert measure(blurred).sharpness < measure(rgb).sharpness
    assert measure(blurred).composite < measure(rgb).composite
    assert measure(flat).contrast < measure(rgb).contrast
    assert measure(flat).composite < measure(rgb).composite


# --- from frame to entry ---------------------------------------------------------------------------------


def pyav_measures(path: Path) -> np.ndarray:
    """(N, Q) of each frame that plain PyAV shows."""
    with av.open(str(path)) as container:
        return np.stack([measure(frame.to_ndarray(format="rgb24")).as_row() for frame in container.decode(video=0)])


def stored(entry: Entry) -> np.ndarray:
    """(N, Q) of an entry, in the order of `NAMES`."""
    assert set(entry.quality) == set(NAMES)
    assert all(values.dtype == np.float32 for values in entry.quality.values())
    return np.stack([entry.quality[name] for name in NAMES], axis=1)


def test_a_rollback_forgets_measures_too_and_without_them_there_are_none() -> None:
    frames = [noise(8, 8, seed) for seed in range(5)]
    sink = FrameCollector(lambda rgb: rgb, lambda page: None, 2, lambda: None, measured=True)
    plain = FrameCollector(lambda rgb: rgb, lambda page: None, 2, lambda: None)
    for collector in (sink, plain):
        collector.add(0, 0.0, frames[0])
        collector.commit()
        collector.add(1, 1.0, frames[1])
        collector.rollback()
        collector.add(2, 2.0, frames[2])  # out of order, as after damage
        collector.add(1, 1.0, frames[3])
        collector.add(1, 1.0, frames[4])  # given twice: the first counts
    expected = np.stack([measure(frames[seed]).as_row() for seed in (0, 3, 2)])
    np.testing.assert_array_equal(sink.finish().quality, expected)
    nothing = plain.finish().quality
    assert nothing.shape == (3, 0)
    assert by_name(nothing) == {}


def test_a_span_without_a_frame_has_no_measures() -> None:
    sink = FrameCollector(lambda rgb: rgb, lambda page: None, 2, lambda: None, measured=True)
    assert sink.finish().quality.shape == (0, len(NAMES))


@pytest.mark.parametrize("rotation", [0, 90])
def test_each_frame_is_measured_as_decoded(clipcache: Cli, tmp_path: Path, rotation: int) -> None:
    truth = make_video(tmp_path / "a.mp4", frames=9, size=(320, 256), rotation=rotation)
    assert clipcache(truth.path, "--quality").code == 0
    found = stored(clipcache.entries["a.mp4"])
    np.testing.assert_allclose(found, pyav_measures(truth.path), rtol=1e-6)
    assert len(np.unique(found[:, 0])) == 9  # the frames differ, so this says something


def test_measures_cross_from_the_workers_and_follow_the_sampling(clipcache: Cli, tmp_path: Path) -> None:
    truth = make_video(tmp_path / "a.mp4", frames=10)
    assert clipcache(truth.path, "--quality", "--every", "3", "--num-workers", "1").code == 0
    np.testing.assert_allclose(stored(clipcache.entries["a.mp4"]), pyav_measures(truth.path)[::3], rtol=1e-6)


def test_a_video_without_an_index_is_measured_too(clipcache: Cli, tmp_path: Path) -> None:
    truth = make_video(tmp_path / "raw.h264", frames=10, container="h264", options={"x264-params": "bframes=0"})
    assert clipcache(truth.path, "--quality", "--every", "4").code == 0
    np.testing.assert_allclose(stored(clipcache.entries["raw.h264"]), pyav_measures(truth.path)[::4], rtol=1e-6)


def test_frames_that_look_alike_to_the_model_keep_their_own_measures(clipcache: Cli, tmp_path: Path) -> None:
    burst = tmp_path / "burst"
    burst.mkdir()
    wide = np.full((224, 600, 3), 100, np.uint8)  # the model sees the middle 224 columns
    for number in range(3):
        wide[:, :50] = 60 * number
        Image.fromarray(wide).save(burst / f"{number}.png")
    outcome = clipcache(burst, "--quality")
    assert "1 pictures encoded" in outcome.out
    brightness = clipcache.entries["burst"].quality["brightness"]
    expected = [(100 * 550 + 60 * number * 50) / 600 / 255 for number in range(3)]
    np.testing.assert_allclose(brightness, expected, rtol=1e-6)


def test_a_damaged_video_has_as_many_measures_as_frames(clipcache: Cli, test_data: Path) -> None:
    assert clipcache(test_data / "videos" / "corrupted.mp4", "--quality").code == 0
    entry = clipcache.entries["corrupted.mp4"]
    assert not entry.complete
    assert stored(entry).shape == (len(entry), len(NAMES))


# --- what is there already -------------------------------------------------------------------------------


def test_an_entry_without_measures_is_made_again_and_one_with_them_is_not(clipcache: Cli, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", frames=4).path
    assert clipcache(video).err == ""
    assert clipcache.entries["a.mp4"].quality == {}
    features = clipcache.entries["a.mp4"].features

    again = clipcache(video, "--quality")
    assert again.complaints == [
        "clipcache: 1 cached item(s) lacked the measures of --quality and were to be encoded again.",
    ]
    assert "1 extracted, 0 cached" in again.out
    assert len(stored(clipcache.entries["a.mp4"])) == 4
    np.testing.assert_array_equal(clipcache.entries["a.mp4"].features, features)

    for words in (["--quality"], []):
        outcome = clipcache(video, *words)
        assert (outcome.complaints, outcome.out) == ([], "Items: 0 extracted, 1 cached, 0 partial, 0 failed\n")
    assert len(stored(clipcache.entries["a.mp4"])) == 4


def test_without_the_option_no_entry_is_opened_to_skip_it(
    clipcache: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / "a.mp4", frames=4).path
    clipcache(video)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("HDF5 was opened")

    monkeypatch.setattr(h5py, "File", refuse)
    # A precision asked for by name would be compared with the entry's.
    assert "1 cached" in clipcache(video, "--precision", "auto").out


def test_which_entry_satisfies_a_request_for_measures(clipcache: Cli, tmp_path: Path) -> None:
    clipcache(make_video(tmp_path / "a.mp4", frames=6).path, "--quality")
    entry = clipcache.entries["a.mp4"]
    cache, sha256 = FeatureCache(clipcache.cache_dir), entry.video_sha256

    def satisfied(*, measured: bool) -> bool:
        found = find_cached(cache, entry.model_dir, sha256, ExtractOptions(quality=measured))
        assert found in (None, entry.path)
        return found is not None

    assert satisfied(measured=True)
    with h5py.File(entry.path, "r+") as file:
        del file["quality/entropy"]
    assert (satisfied(measured=True), satisfied(measured=False)) == (False, True)
    with h5py.File(entry.path, "r+") as file:
        file.attrs["schema_version"] = 99  # newer than this program: not for it to replace
    assert satisfied(measured=True)
    entry.path.write_bytes(b"damaged")
    assert (satisfied(measured=True), satisfied(measured=False)) == (False, True)
