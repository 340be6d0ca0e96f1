"""Meaning: the bundled model knows its small world, and the program finds in it what is there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import UsageError
from clipcache.cache.common.hashing import DigestMemo
from clipcache.cli import cli
from clipcache.demo import library
from clipcache.demo.library import LIBRARY, TRUTH_FILE, Interval, intervals, write_library
from clipcache.demo.scenes import Background, Scene, Thing, render
from clipcache.extract import ExtractOptions, extract, load_model
from clipcache.extract.models.prompts import LoadedModel, load_reference_encoder
from clipcache.extract.models.weights import bundled_weights, find_weights, load_clip
from clipcache.score import similarities
from demo_library import DemoLibrary
from PIL import Image

SUBJECTS = [interval for video in LIBRARY if video.name != "qualities.mp4" for interval in intervals(video)]
QUALITIES = [interval for video in LIBRARY if video.name == "qualities.mp4" for interval in intervals(video)]


def label(interval: Interval) -> str:
    return f"{interval.video}@{interval.start_s:g}"


@pytest.fixture(scope="module")
def encoder() -> LoadedModel:
    return load_model("demo", device="cpu")


@pytest.fixture(scope="module")
def cosines(demo_library: DemoLibrary, encoder: LoadedModel) -> dict[str, np.ndarray]:
    """(N, captions) of every video."""
    texts = encoder.encode_texts(demo_library.captions)
    return {v.name: similarities(demo_library.entry(v.name).features, texts) for v in LIBRARY}


@pytest.mark.parametrize("interval", SUBJECTS, ids=label)
def test_the_right_prompt_beats_every_other_one(
    demo_library: DemoLibrary, cosines: dict[str, np.ndarray], interval: Interval
) -> None:
    mean = cosines[interval.video][demo_library.rows(interval)].mean(axis=0)
    subjects = [n for n, caption in enumerate(demo_library.captions) if not caption.endswith("photo")]
    best = max(subjects, key=lambda n: mean[n])
    assert demo_library.captions[best] == interval.caption


@pytest.mark.parametrize("interval", SUBJECTS, ids=label)
def test_the_best_frame_lies_in_the_right_scene(
    demo_library: DemoLibrary, cosines: dict[str, np.ndarray], interval: Interval
) -> None:
    column = demo_library.captions.index(interval.caption)
    best = int(np.argmax(cosines[interval.video][:, column]))
    assert best in demo_library.rows(interval)


@pytest.mark.parametrize("interval", QUALITIES, ids=lambda i: i.caption)
def test_qualities_are_told_apart(
    demo_library: DemoLibrary, cosines: dict[str, np.ndarray], interval: Interval
) -> None:
    """Among the five ways in which one picture is taken, each prompt likes its own best."""
    column = demo_library.captions.index(interval.caption)
    rivals = QUALITIES[:2] if interval is QUALITIES[0] else QUALITIES  # all but the blurry one are sharp
    means = {i.caption: cosines[i.video][demo_library.rows(i), column].mean() for i in rivals}
    assert max(means, key=lambda caption: means[caption]) == interval.caption


def test_an_image_finds_what_it_shows(demo_library: DemoLibrary, encoder: LoadedModel, tmp_path: Path) -> None:
    scene = Scene(
        (Thing("square", "blue", 0.05, -0.05, 0.45, 30.0),), Background("plain", (120, 120, 120), (120, 120, 120))
    )
    Image.fromarray(render(scene, (400, 300))).save(tmp_path / "query.png")
    query = encoder.encode_images([tmp_path / "query.png"])
    for video in ("shapes.mp4", "encore.mp4"):
        best = int(np.argmax(similarities(demo_library.entry(video).features, query)[:, 0]))
        (shown,) = [i for i in demo_library.truth if i.video == video and best in demo_library.rows(i)]
        assert shown.caption == "a blue square"


def test_videos_of_the_same_content_are_more_alike(demo_library: DemoLibrary) -> None:
    means = {}
    for name in ("shapes.mp4", "encore.mp4", "still.mp4", "pairs.mp4"):
        features = demo_library.entry(name).features.astype(np.float32)
        means[name] = (features / np.linalg.norm(features, axis=1, keepdims=True)).mean(axis=0)
    alike = similarities(np.array([means["shapes.mp4"]]), np.array(list(means.values())))[0]
    assert alike[1] > max(alike[2:])


def test_rescoring_after_a_rename_is_identical(demo_library: DemoLibrary, tmp_path: Path) -> None:
    def scored(folder: Path) -> list[dict[str, str]]:
        arguments = ["score", str(folder), "--cache", str(demo_library.cache_dir), "--text", "a red circle"]
        result = CliRunner().invoke(cli, [*arguments, "--format", "csv"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return list(csv.DictReader(result.stdout.splitlines()))

    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in demo_library.folder.glob("*.m*"):
        (renamed / f"other {path.name}").write_bytes(path.read_bytes())
    before, after = scored(demo_library.folder), scored(renamed)
    assert len(before) == 6
    assert sorted(map(str, before)) == sorted(map(str, after))


def test_the_entry_of_a_variable_rate_has_the_frames_own_times(demo_library: DemoLibrary) -> None:
    entry = demo_library.entry("variable.mkv")
    with av.open(str(demo_library.folder / "variable.mkv")) as container:
        times = [frame.time * 1000 for frame in container.decode(video=0)]
    np.testing.assert_allclose(entry.timestamps_ms, times, atol=1e-6)
    steps = np.diff(entry.timestamps_ms)
    assert steps.max() > 3 * steps.min()


def test_still_frames_are_encoded_once(demo_library: DemoLibrary, tmp_path: Path) -> None:
    summary = extract([demo_library.folder / "still.mp4"], tmp_path, ExtractOptions(model="demo", num_workers=0))
    assert summary.frames == 360
    assert summary.encoded < 200  # 12 of 15 seconds stand still; H.264 lets some of these frames drift a little


def test_the_truth_is_written_beside_the_videos(demo_library: DemoLibrary) -> None:
    lines = json.loads((demo_library.folder / TRUTH_FILE).read_text())
    assert [Interval(**line) for line in lines] == list(demo_library.truth)
    for video in LIBRARY:
        entry, last = demo_library.entry(video.name), list(intervals(video))[-1]
        assert 10 <= last.end_s <= 20
        assert entry.timestamps_ms[-1] / 1000 < last.end_s <= entry.timestamps_ms[-1] / 1000 + 0.1


def test_a_second_call_leaves_the_videos_as_they_are(demo_library: DemoLibrary) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo_library.folder.glob("*.m*")}
    write_library(demo_library.folder)
    assert before == {path: path.stat().st_mtime_ns for path in demo_library.folder.glob("*.m*")}


def test_the_model_is_small_and_of_openais_shape() -> None:
    assert bundled_weights().stat().st_size < 4_000_000
    model = load_clip(find_weights("demo", None, DigestMemo()))
    assert model.visual.input_resolution == 224
    assert tuple(model.text_projection.shape)[1] == 512
    assert model.token_embedding.weight.shape[0] == 49408


def test_score_finds_the_demo_weights_by_themselves() -> None:
    weights = find_weights("demo", None, DigestMemo())
    assert load_reference_encoder("demo", weights.sha256, device="cpu").encode_texts(["a red circle"]).shape == (1, 512)


def test_the_demo_command_teaches_and_hits_the_cache_the_second_time(tmp_path: Path) -> None:
    folder = tmp_path / "tour of mine"
    first = CliRunner().invoke(cli, ["demo", str(folder)], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert "6 extracted, 0 cached" in first.stdout
    commands = [line[2:] for line in first.stdout.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 3
    assert all(command.startswith("clipcache ") for command in commands)
    assert f"'{folder}/videos'" in commands[0]  # quoted: it can be pasted
    with Image.open(folder / "shapes.png") as plot:
        assert plot.size[0] > 1000
    rows = list(csv.DictReader((folder / "red-circle.csv").read_text().splitlines()))
    best = max(rows, key=lambda row: float(row["cosine"]))
    assert float(best["timestamp_ms"]) < 4000  # a red circle is shown in the first four seconds
    second = CliRunner().invoke(cli, ["demo", str(folder)], catch_exceptions=False)
    assert "0 extracted, 6 cached" in second.stdout


def test_only_the_videos_on_request(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["demo", str(tmp_path), "--videos-only"], catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == sorted(
        [TRUTH_FILE, *(video.name for video in LIBRARY)]
    )
    assert not (tmp_path / "features").exists()


def test_entries_say_that_the_demo_model_made_them(demo_library: DemoLibrary) -> None:
    for entry in FeatureCache(demo_library.cache_dir):
        assert (entry.model, entry.embed_dim, entry.input_size) == ("demo", 512, 224)


@pytest.mark.parametrize("name", ["shapes.mp4", "truth.json", "notes.txt"])
def test_a_folder_with_files_of_the_users_is_not_written_to(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="files that are not the demo's; choose another folder"):
        write_library(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_an_interrupted_library_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(library, "_frames", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_library(tmp_path)
    assert len(write_library(tmp_path)) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"truth.json", *(video.name for video in library.LIBRARY)}


def interrupt(_: object) -> object:
    raise KeyboardInterrupt
