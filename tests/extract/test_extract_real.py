"""Real videos, from the file to the entry, against plain loops and the table of their frames."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.format.sampling import Sampling
from clipcache.extract import ExtractOptions, Summary, extract
from clipcache.extract.models.weights import WeightsFile, load_clip
from PIL import Image

OPTIONS = {"model": "tiny", "num_workers": 2, "precision": "fp32", "dtype": "float32"}


@pytest.fixture(scope="module")
def run(test_data: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """All real videos, extracted in one run."""
    cache_dir = tmp_path_factory.mktemp("features")
    options = ExtractOptions(weights=tiny_weights, **OPTIONS)  # type: ignore[arg-type]
    return cache_dir, extract([test_data / "videos"], cache_dir, options)


def counts_in_the_table(test_data: Path) -> dict[str, int]:
    """Frames shown, by file name, from the README of the data."""
    counts: dict[str, int] = {}
    for line in (test_data / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names, numbers = re.findall(r"[\w.-]+\.\w+", cells[0]), re.findall(r"\d+", cells[-1])
        if len(cells) == 4 and len(names) == len(numbers):
            counts.update(zip(names, map(int, numbers), strict=True))
    return counts


def test_every_frame_that_is_shown_is_cached(run: tuple[Path, Summary], test_data: Path) -> None:
    cache_dir, summary = run
    counts = counts_in_the_table(test_data)
    entries = {entry.video_name: entry for entry in FeatureCache(cache_dir)}
    found = {name: len(entry) for name, entry in entries.items() if name != "corrupted.mp4"}
    assert len(counts) == 16
    assert found == counts
    assert not entries["corrupted.mp4"].complete
    assert 28 <= len(entries["corrupted.mp4"]) < entries["corrupted.mp4"].frames_expected == 50
    assert (summary.extracted, summary.partial, summary.failed) == (17, 1, 0)
    assert summary.frames == sum(map(len, entries.values()))


def test_timestamps_are_the_containers(run: tuple[Path, Summary], test_data: Path) -> None:
    for entry in FeatureCache(run[0]):
        if not entry.complete:
            continue
        with av.open(str(test_data / "videos" / entry.video_name)) as container:
            times = [frame.time * 1000 for frame in container.decode(container.streams.best("video"))]
        np.testing.assert_allclose(entry.timestamps_ms, times, rtol=0, atol=1e-6)
        assert entry.frame_index.tolist() == list(range(len(times)))


def plain_features(path: Path, weights: Path, frames: int) -> np.ndarray:
    """The usual script: one frame at a time, PIL, CLIP's own preprocessing, float32."""
    import torch
    from clip.clip import _transform

    model = load_clip(WeightsFile("tiny", "", weights, published=False))
    preprocess = _transform(model.visual.input_resolution)
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.best("video")):
            image = frame.to_image().rotate(frame.rotation, expand=True, resample=Image.Resampling.NEAREST)
            with torch.inference_mode():
                found.append(model.encode_image(preprocess(image)[None]).numpy()[0])
            if len(found) == frames:
                break
    return np.array(found)


@pytest.mark.parametrize("name", ["rabbit320.webm", "nasa_13013_rotated.mp4", "h265_10bits.mp4", "car-detection.mp4"])
def test_features_equal_the_plain_loop(
    run: tuple[Path, Summary], test_data: Path, tiny_weights: Path, name: str
) -> None:
    path = test_data / "videos" / name
    expected = plain_features(path, tiny_weights, 40)
    found = FeatureCache(run[0]).get(path).features[: len(expected)]
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert len(expected) >= 17
    assert cosine.min() >= 0.9999
    assert np.ptp(expected, axis=0).max() > 0.001  # the frames differ, so equality says something


def test_a_second_run_and_a_renamed_folder_decode_nothing(
    run: tuple[Path, Summary], test_data: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = tmp_path / "elsewhere"
    renamed.mkdir()
    for number, path in enumerate(sorted((test_data / "videos").iterdir())):
        (renamed / f"clip {number}{path.suffix}").write_bytes(path.read_bytes())
    monkeypatch.setattr("clipcache.extract.engine.FrameEncoder", None)  # any attempt to encode would fail
    options = ExtractOptions(weights=tiny_weights, **OPTIONS)  # type: ignore[arg-type]
    for folder in (test_data / "videos", renamed):
        summary = extract([folder], run[0], options)
        assert (summary.cached, summary.extracted, summary.failed) == (17, 0, 0)


def test_lower_rates_are_slices_of_every_frame(
    run: tuple[Path, Summary], test_data: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = test_data / "videos" / "v_GGSY1Qvo990.mp4"
    whole = FeatureCache(run[0]).get(path)
    for sampling, cut in ((Sampling(fps=2.0), {"fps": 2.0}), (Sampling(every=16), {"every": 16})):
        options = ExtractOptions(weights=tiny_weights, sampling=sampling, **OPTIONS)  # type: ignore[arg-type]
        extract([path], tmp_path / str(sampling), options)
        sampled, sliced = FeatureCache(tmp_path / str(sampling)).get(path), whole.slice(**cut)
        assert sampled.frame_index.tolist() == sliced.frame_index.tolist()
        assert 20 <= len(sampled) <= 40
        np.testing.assert_allclose(sampled.features, sliced.features, atol=1e-4)
        assert (sampled.sampling, sampled.frames_expected) == (str(sampling), 355)


def test_a_worker_loads_no_cuda_library() -> None:
    program = (
        "import sys; from clipcache.extract.video.decord_segments import import_decord; import_decord();"
        "maps = open('/proc/self/maps').read();"
        "sys.exit('libcublas' in maps or 'torch' in sys.modules or 'nvidia' in sys.modules)"
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
