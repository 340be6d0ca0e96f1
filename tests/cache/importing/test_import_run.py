"""Features that others have made become entries that say so, and give the same scores as before."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import UsageError
from clipcache.cache.importing.identity import stand_in_sha256
from clipcache.cache.verify import verify
from clipcache.score import similarities
from export_caches import DIM, by_name, fill, run_export, run_import
from score_caches import WEIGHTS, make_video, put

FEATURES = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float16)
B32 = ("--model", "ViT-B/32")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "imported"


def triple(
    folder: Path, stem: str = "clip", features: np.ndarray = FEATURES, times: Any = None, fps: Any = 25.0
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{stem}_clip.npy", features)
    np.save(folder / f"{stem}_timestamps_ms.npy", np.arange(len(features)) * 40.0 if times is None else times)
    np.save(folder / f"{stem}_fps.npy", fps)
    return folder / f"{stem}_clip.npy"


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def only(cache: Path) -> Entry:
    (entry,) = FeatureCache(cache)
    return entry


@pytest.mark.parametrize(
    ("name", "output", "more"),
    [
        ("numpy", "out", ()),
        ("npz", "out", ()),
        ("webdataset", "out", ()),
        ("h5", "out.h5", ("--fps", 10, "--sampling", "all")),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_exported_and_imported_features_score_the_same_to_the_last_bit(
    tmp_path: Path, cache: Path, name: str, output: str, more: tuple[object, ...], dtype: str
) -> None:
    before = fill(tmp_path)
    run_export(before, name, tmp_path / output, "--dtype", dtype)
    result = run_import(cache, tmp_path / output, *B32, "--videos", tmp_path / "videos", *more)
    assert (result.exit_code, result.stdout.split(":")[0]) == (
        0,
        "3 videos imported (60 frames), 0 already there, 0 failed",
    )
    prompts = np.random.default_rng(2).normal(size=(3, DIM)).astype(np.float32)
    for stem, old in by_name(before).items():
        new = FeatureCache(cache).get(next((tmp_path / "videos").rglob(f"{stem}.mp4")))
        assert new.features.astype(dtype).tobytes() == old.features.astype(dtype).tobytes()
        assert new.features.dtype == dtype
        assert similarities(new.features, prompts).tobytes() == similarities(old.features, prompts).tobytes()
        assert new.timestamps_ms.tolist() == old.timestamps_ms.tolist()
        assert new.frame_index.tolist() == old.frame_index.tolist()
        assert (new.video_name, new.video_sha256, new.fps) == (old.video_name, old.video_sha256, old.fps)
        assert Path(new.source_path).read_bytes() == b"video " + new.video_name.encode()
    assert [finding.problem for finding in verify(FeatureCache(cache))] == [None] * 3


def test_an_entry_says_that_it_was_imported_and_what_is_not_known(tmp_path: Path, cache: Path) -> None:
    result = run_import(cache, triple(tmp_path / "in"), "--model", "vit-b-32")
    assert "1 videos imported, 1 without their video (5 frames)" in result.stdout
    entry = only(cache)
    assert (entry.model, entry.weights_sha256, entry.input_size, entry.logit_scale) == ("ViT-B/32", WEIGHTS, 224, 100.0)
    assert (entry.decoder, entry.precision, entry.preprocess) == ("imported:video_features", "unknown", "unknown")
    assert (entry.codec, entry.video_bytes, entry.video_name, entry.source_path) == ("unseen", 0, "clip", "")
    assert (entry.fps, entry.duration_s, entry.sampling) == (25.0, pytest.approx(0.2), "all")
    text = b"clipcache imported features\0(5, 4)\0<f2\0"
    assert entry.video_sha256 == hashlib.sha256(text + FEATURES.tobytes()).hexdigest()


def test_the_stand_in_hash_does_not_depend_on_the_machine() -> None:
    assert stand_in_sha256(FEATURES.astype(">f2")) == stand_in_sha256(np.asfortranarray(FEATURES))
    assert stand_in_sha256(FEATURES) != stand_in_sha256(FEATURES.astype(np.float32))


@pytest.mark.parametrize("beside", [True, False])
def test_a_video_that_is_there_gives_the_entry_its_hash(tmp_path: Path, cache: Path, beside: bool) -> None:
    path = triple(tmp_path / "in")
    video = make_video(tmp_path / "in" if beside else tmp_path / "videos", "clip.mp4")
    run_import(cache, path, *B32, *(() if beside else ("--videos", tmp_path / "videos")))
    entry = FeatureCache(cache).get(video)
    assert (entry.video_name, entry.video_bytes, entry.codec) == ("clip.mp4", video.stat().st_size, "unknown")


def test_two_videos_of_one_name_are_not_guessed_between(tmp_path: Path, cache: Path) -> None:
    path = triple(tmp_path / "in")
    for folder in ("one", "two"):
        make_video(tmp_path / "videos" / folder, "clip.mp4", folder.encode())
    result = run_import(cache, path, *B32, "--videos", tmp_path / "videos")
    assert (result.exit_code, "may belong to" in result.stderr) == (1, True)
    assert not cache.exists() or not list(cache.rglob("*.h5"))


@pytest.mark.parametrize("format_name", ["numpy", "npz", "webdataset"])
@pytest.mark.parametrize("by_folder", [True, False])
def test_exported_videos_of_one_name_are_found_again(
    tmp_path: Path, cache: Path, format_name: str, by_folder: bool
) -> None:
    videos = [make_video(tmp_path / "videos" / folder, "clip.mp4", folder.encode()) for folder in ("one", "two")]
    for video, features in zip(videos, (FEATURES, FEATURES[:3]), strict=True):
        put(tmp_path / "features", video, features)
    named = [tmp_path / "videos"] if by_folder else []  # else the names end in the videos' hashes
    run_export(tmp_path / "features", format_name, tmp_path / "out", *named)
    result = run_import(cache, tmp_path / "out", *B32, "--videos", tmp_path / "videos")
    assert "2 videos imported (8 frames)" in result.stdout
    for video, features in zip(videos, (FEATURES, FEATURES[:3]), strict=True):
        np.testing.assert_array_equal(FeatureCache(cache).get(video).features, features)


def test_hero_npz_needs_a_rate(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, features=FEATURES.astype(np.float32))
    result = run_import(cache, path, *B32)
    assert (result.exit_code, "give --fps or --interval" in result.stderr) == (1, True)
    run_import(cache, path, *B32, "--fps", 0.5)
    entry = only(cache)
    assert (entry.sampling, entry.decoder, entry.fps) == ("fps=0.5", "imported:npz", 0.5)
    assert entry.timestamps_ms.tolist() == [0, 2000, 4000, 6000, 8000]
    assert entry.features.tobytes() == FEATURES.astype(np.float32).tobytes()
    assert entry.slice(fps=0.25).frame_index.tolist() == [0, 2, 4]


def test_an_interval_is_kept_exactly(tmp_path: Path, cache: Path) -> None:
    np.savez(tmp_path / "clip.npz", features=np.ones((2001, DIM)))
    run_import(cache, tmp_path / "clip.npz", *B32, "--interval", 1.5)
    assert only(cache).timestamps_ms[-1] == 3_000_000.0
    assert only(cache).features.dtype == np.float32  # from float64


def test_frames_that_are_not_all_must_be_named(tmp_path: Path, cache: Path) -> None:
    index = np.array([0, 16, 17, 32])
    np.savez(tmp_path / "clip.npz", features=FEATURES[:4], timestamps_ms=index * 100.0, frame_index=index)
    assert "say which" in run_import(cache, tmp_path / "clip.npz", *B32).stderr
    run_import(cache, tmp_path / "clip.npz", *B32, "--sampling", "all")
    assert (only(cache).sampling, only(cache).frame_index.tolist()) == ("all", [0, 16, 17, 32])
    assert only(cache).timestamps_ms.tolist() == [0, 1600, 1700, 3200]


def test_mad_h5_has_a_dataset_a_video(tmp_path: Path, cache: Path) -> None:
    with h5py.File(tmp_path / "mad.h5", "w") as file:
        file["one"] = FEATURES
        file.create_dataset("two", data=FEATURES[:3], compression="gzip")
    result = run_import(cache, tmp_path / "mad.h5", *B32, "--fps", 5)
    assert "2 videos imported" in result.stdout
    assert {entry.video_name: len(entry) for entry in FeatureCache(cache)} == {"one": 5, "two": 3}


def test_clip_video_encode_shards(tmp_path: Path, cache: Path) -> None:
    members = {
        "000.npy": npy(FEATURES),
        "000.json": json.dumps({"caption": "x"}).encode(),
        "000.txt": b"x",
        "001.npy": npy(FEATURES[:2]),
    }
    run_import(cache, tar_of(tmp_path / "0_clip_embeddings.tar", members), *B32, "--fps", 25)
    assert {entry.video_name: len(entry) for entry in FeatureCache(cache)} == {"000": 5, "001": 2}


def test_what_is_there_is_left_and_never_replaced(tmp_path: Path, cache: Path) -> None:
    video = make_video(tmp_path / "in", "clip.mp4")
    path = triple(tmp_path / "in")
    run_import(cache, path, *B32)
    before = only(cache).path.stat().st_mtime_ns
    assert "0 videos imported (0 frames), 1 already there" in run_import(cache, path, *B32).stdout
    triple(tmp_path / "in", features=FEATURES + 1)
    result = run_import(cache, path, *B32)
    assert (result.exit_code, "other features" in result.stderr) == (1, True)
    assert only(cache).path.stat().st_mtime_ns == before
    extracted = put(tmp_path / "extracted", video, sampling="fps=2")
    assert "other features" in run_import(tmp_path / "extracted", path, *B32).stderr
    assert [entry.path for entry in FeatureCache(tmp_path / "extracted")] == [extracted]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ((), "Say which model made the features"),
        (("--model", "mine"), "give their hash by --weights-sha256"),
        (("--model", "mine", "--weights-sha256", "AB"), "64 lower-case hex digits"),
        ((*B32, "--fps", 1, "--interval", 1), "give one of them"),
        ((*B32, "--sampling", "some"), "is not one of"),
    ],
)
def test_features_of_nobody_knows_what_are_refused(
    tmp_path: Path, cache: Path, more: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        run_import(cache, triple(tmp_path / "in"), *more)
    assert not cache.exists()


def test_any_model_is_taken_with_the_hash_of_its_weights(tmp_path: Path, cache: Path) -> None:
    path = triple(tmp_path / "in", features=np.ones((2, 7), np.float32))
    run_import(cache, path, "--model", "mine", "--weights-sha256", "ab" * 32, "--logit-scale", 10)
    entry = only(cache)
    assert (entry.model_dir, entry.embed_dim, entry.input_size, entry.logit_scale) == ("mine-abababab", 7, 0, 10.0)


@pytest.mark.parametrize("at_once", [True, False])
def test_features_of_another_length_are_not_of_the_same_weights(tmp_path: Path, cache: Path, at_once: bool) -> None:
    np.savez(tmp_path / "a.npz", features=FEATURES)
    np.savez(tmp_path / "b.npz", features=FEATURES[:, :3])
    mine = ("--model", "mine", "--weights-sha256", "c" * 64, "--fps", 2)
    if at_once:
        result = run_import(cache, tmp_path, *mine)
    else:
        run_import(cache, tmp_path / "a.npz", *mine)
        result = run_import(cache, tmp_path / "b.npz", *mine)
    assert "where features (N, 4) of mine belong" in result.stderr
    assert only(cache).video_name == "a"


@pytest.mark.parametrize("fps", [np.nan, np.inf, -5.0, 0.0])
def test_a_rate_that_is_none_is_measured(tmp_path: Path, cache: Path, fps: float) -> None:
    run_import(cache, triple(tmp_path, fps=fps), *B32)
    assert only(cache).fps == 25.0
    assert [finding.problem for finding in verify(FeatureCache(cache))] == [None]


@pytest.mark.parametrize("index", [[0, 1, 2, 3, np.nan], [0, 1, 2, 3, np.inf], [0, 1, 2, 3, 1e300], [0, 1, 2, 3, 4.5]])
def test_a_position_is_a_whole_number(tmp_path: Path, cache: Path, index: list[float]) -> None:
    np.savez(tmp_path / "a.npz", features=FEATURES, timestamps_ms=np.arange(5.0), frame_index=index)
    result = run_import(cache, tmp_path, *B32, "--sampling", "all")
    assert "frame_index that is not a whole number" in result.stderr


def test_nothing_is_imported_into_a_packed_library(tmp_path: Path) -> None:
    (tmp_path / "library.h5").touch()
    with pytest.raises(UsageError, match="clipcache cache unpack"):
        run_import(tmp_path / "library.h5", triple(tmp_path), *B32)


def test_targets_without_features_are_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "in").mkdir()
    for target in (tmp_path / "in", tmp_path / "missing.npz", make_video(tmp_path, "notes.txt")):
        with pytest.raises(UsageError, match=r"holds no features to import; known are \*_clip\.npy"):
            run_import(cache, target, *B32)


def test_the_real_triple_ranks_barbell_first(test_data: Path, cache: Path) -> None:
    from types import SimpleNamespace

    from click.testing import CliRunner
    from clipcache.cache.importing.command import import_features
    from clipcache.extract.video.index import read_index

    reference = test_data / "clip_reference"
    published = SimpleNamespace(sha256="40" * 32, embed_dim=512, input_size=224)
    arguments = [str(reference / "v_GGSY1Qvo990_clip.npy"), "--videos", str(test_data / "videos")]
    result = CliRunner().invoke(
        import_features,
        [*arguments, "--cache", str(cache), *B32],
        obj=SimpleNamespace(published_model=lambda _: published, read_frames=read_index),
        catch_exceptions=False,
    )
    assert result.stdout.startswith("1 videos imported (355 frames)")
    entry = FeatureCache(cache).get(test_data / "videos" / "v_GGSY1Qvo990.mp4")
    with np.load(reference / "lvis_text_features.npz") as texts:
        cosines = similarities(entry.features, texts["features"]).mean(axis=0)
        best = np.argsort(-cosines)[:3]
        assert texts["names"][best].tolist() == ["barbell", "mat_(gym_equipment)", "dumbbell"]
    assert cosines[best] == pytest.approx([0.299, 0.259, 0.251], abs=5e-4)
    assert entry.timestamps_ms.tolist() == np.load(reference / "v_GGSY1Qvo990_timestamps_ms.npy").tolist()
