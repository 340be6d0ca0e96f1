"""Our own exports come back as what they were: what they say of themselves is kept, and must not be contradicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache import Entry, FeatureCache, UsageError
from clipcache.cache.verify import verify
from export_caches import DIM, FRAMES_OF, by_name, make_frames, run_export, run_import
from score_caches import make_video, put
from test_import_run import npy, tar_of

COUNT = 100
SAID = (
    "model",
    "weights_sha256",
    "logit_scale",
    "precision",
    "preprocess",
    "input_size",
    "embed_dim",
    "decoder_version",
)
SAID += ("torch_version", "video_name", "video_sha256", "video_bytes", "fps", "width", "height", "codec", "duration_s")
EXACT = {
    "numpy": "out",
    "npz": "out",
    "torch": "out",
    "h5-nested": "out.h5",
    "parquet": "out.parquet",
    "parquet-videos": "out.parquet",
    "webdataset": "out",
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """One video at 25 frames a second, by a model that nobody publishes."""
    features = np.random.default_rng(0).normal(size=(COUNT, DIM))
    known: dict[str, Any] = {"model": "mine", "weights_sha256": "ab" * 32, "logit_scale": 43.4, "precision": "bf16"}
    known |= {"preprocess": "squash", "decoder": "decord+pyav", "fps": 25.0, "input_size": 64}
    put(tmp_path / "features", make_video(tmp_path / "videos", "clip.mp4"), features, step_ms=40.0, **known)
    return tmp_path / "features"


def only(cache: Path) -> Entry:
    (entry,) = FeatureCache(cache)
    return entry


def again(tmp_path: Path, name: str, *recipe: object, more: tuple[object, ...] = ()) -> tuple[Entry, str]:
    """The entry exported and imported, and what the import said."""
    output = tmp_path / {**EXACT, "h5": "out.h5", "clip-retrieval": "out"}[name]
    run_export(tmp_path / "features", name, output, *recipe)
    result = run_import(tmp_path / "again", output, *more)
    assert result.exit_code == 0, result.stderr
    return only(tmp_path / "again"), result.stderr


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("recipe", [(), ("--fps", 5), ("--every", 16)])
def test_what_an_export_says_is_kept(cache: Path, tmp_path: Path, name: str, recipe: tuple[object, ...]) -> None:
    entry, said = again(tmp_path, name, *recipe)
    before = only(cache).slice(
        **{str(option)[2:]: value for option, value in zip(recipe[::2], recipe[1::2], strict=True)}
    )
    assert {field: getattr(entry, field) for field in SAID} == {field: getattr(before, field) for field in SAID}
    assert entry.sampling == before.sampling
    assert (entry.sampling in said) is bool(recipe)
    assert entry.decoder.startswith("imported:")
    assert entry.decoder.endswith(":decord+pyav")
    assert np.array_equal(entry.features, before.features)
    assert entry.timestamps_ms.tolist() == before.timestamps_ms.tolist()
    assert entry.complete
    if name != "numpy" or recipe[:1] != ("--fps",):  # which has no positions
        assert entry.frame_index.tolist() == before.frame_index.tolist()
    assert [finding.problem for finding in verify(FeatureCache(tmp_path / "again"))] == [None]


@pytest.mark.parametrize("name", ["h5", "numpy"])
def test_what_a_format_cannot_hold_is_taken_from_the_video(
    cache: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FRAMES_OF, "clip.mp4", make_frames(COUNT, 25.0))
    entry, _ = again(tmp_path, name, "--fps", 5, more=("--videos", tmp_path / "videos"))
    before = only(cache).slice(fps=5)
    assert entry.timestamps_ms.tolist() == before.timestamps_ms.tolist()
    assert entry.frame_index.tolist() == before.frame_index.tolist() == list(range(0, COUNT, 5))
    assert (entry.sampling, entry.logit_scale) == ("fps=5", 43.4)


def test_normalised_features_come_back_with_their_model(cache: Path, tmp_path: Path) -> None:
    entry, _ = again(tmp_path, "clip-retrieval")
    assert (entry.model, entry.logit_scale, len(entry)) == ("mine", 43.4, COUNT)
    assert np.linalg.norm(entry.features.astype(float), axis=1) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["npz", "torch", "h5-nested", "parquet", "webdataset", "clip-retrieval"])
def test_an_image_folder_comes_back_with_its_names(tmp_path: Path, name: str) -> None:
    names = ["a.png", "ü.png", "c.png"]
    put(tmp_path / "features", make_video(tmp_path, "album"), frame_names=names, fps=0.0)
    entry, _ = again(tmp_path, name)
    assert (entry.frame_names, entry.source_kind, entry.frame_index.tolist()) == (names, "image-folder", [0, 1, 2])


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        (("--model", "ViT-B/32"), "features of mine (weights abababab, logit scale 43.4), and --model says ViT-B/32"),
        (("--weights-sha256", "cd" * 32), "--weights-sha256 says cdcd"),
        (("--logit-scale", 100), "--logit-scale says 100"),
        (
            ("--sampling", "every=2"),
            "the frames of all, as its export says, and --sampling says every=2",
        ),
    ],
)
@pytest.mark.parametrize("name", [*EXACT, "h5"])
def test_a_contradiction_is_refused(
    cache: Path, tmp_path: Path, name: str, claim: tuple[object, ...], sentence: str
) -> None:
    output = tmp_path / (EXACT | {"h5": "out.h5"})[name]
    run_export(cache, name, output)
    result = run_import(tmp_path / "again", output, *claim)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not list((tmp_path / "again").rglob("*.h5"))
    agreeing = ("--model", "mine", "--weights-sha256", "ab" * 32, "--logit-scale", 43.4, "--sampling", "all")
    assert run_import(tmp_path / "again", output, *agreeing).exit_code == 0


@pytest.mark.parametrize("name", [*EXACT, "h5"])
def test_means_of_frames_are_no_frames(cache: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / (EXACT | {"h5": "out.h5"})[name]
    run_export(cache, name, output, "--pool", "mean:100")
    result = run_import(tmp_path / "again", output)
    assert (result.exit_code, "means of 100 frames" in result.stderr) == (1, True)


def test_a_part_of_a_video_is_imported_only_as_such(cache: Path, tmp_path: Path) -> None:
    run_export(cache, "npz", tmp_path / "out", "--start", 1, "--end", 2)
    result = run_import(tmp_path / "again", tmp_path / "out")
    assert (result.exit_code, "a part of the video only" in result.stderr) == (1, True)
    assert run_import(tmp_path / "again", tmp_path / "out", "--sampling", "all").exit_code == 0
    entry = only(tmp_path / "again")
    assert (entry.complete, entry.sampling, entry.frame_index.tolist()) == (False, "all", list(range(25, 50)))


@pytest.mark.parametrize(("interval", "sampling"), [(0.5, "fps=2"), (1.5, None)])
def test_an_interval_is_a_rate_only_if_that_is_exact(
    cache: Path, tmp_path: Path, interval: float, sampling: str | None
) -> None:
    run_export(cache, "npz", tmp_path / "out", "--interval", interval)
    result = run_import(tmp_path / "again", tmp_path / "out")
    if sampling is None:
        assert "one frame in 1.5 s, which no sampling says exactly" in result.stderr
    else:
        assert only(tmp_path / "again").sampling == sampling


def test_an_export_belongs_to_the_video_that_it_was_made_of(cache: Path, tmp_path: Path) -> None:
    """Without the video its hash is known all the same; another video of that name is not taken for it."""
    run_export(cache, "npz", tmp_path / "out")
    other = make_video(tmp_path / "others", "clip.mp4", b"encoded anew")
    result = run_import(tmp_path / "again", tmp_path / "out", "--videos", tmp_path / "others")
    assert "1 videos imported, 1 without their video" in result.stdout
    assert FeatureCache(tmp_path / "again").get(tmp_path / "videos" / "clip.mp4").video_name == "clip.mp4"
    assert only(tmp_path / "again").video_bytes != other.stat().st_size


def test_a_file_that_changed_is_not_what_the_manifest_says(cache: Path, tmp_path: Path) -> None:
    run_export(cache, "numpy", tmp_path / "out")
    np.save(tmp_path / "out" / "clip_clip.npy", np.ones((COUNT, DIM)))
    with pytest.raises(UsageError, match="Say which model made the features"):
        run_import(tmp_path / "again", tmp_path / "out")


BAD: dict[str, dict[str, Any]] = {
    "hash": {"weights_sha256": "x"},
    "scale": {"logit_scale": 0.0},
    "nan": {"logit_scale": float("nan")},
    "type": {"width": "wide"},
    "bool": {"video_bytes": True},
    "sampling": {"sampling": "some"},
    "kind": {"source_kind": "hologram"},
    "version": {"schema_version": 99},
    "recipe": {"recipe": "none"},
    "interval": {"recipe": {"interval_s": 0}},
    "width": {"embed_dim": 7},
    "rows": {"frames_decoded": 3},
    "missing": {"precision": None},
}


@pytest.mark.parametrize("what", BAD)
def test_metadata_that_cannot_be_are_refused(cache: Path, tmp_path: Path, what: str) -> None:
    run_export(cache, "npz", tmp_path / "out")
    with np.load(tmp_path / "out" / "clip.npz") as arrays:
        said, features = json.loads(str(arrays["metadata"])), arrays["features"]
    said = {key: value for key, value in (said | BAD[what]).items() if value is not None}
    (tmp_path / "bad").mkdir()
    tar_of(tmp_path / "bad" / "x.tar", {"clip.npy": npy(features), "clip.json": json.dumps(said).encode()})
    result = run_import(tmp_path / "again", tmp_path / "bad", "--fps", 25)
    assert result.exit_code == 1
    assert "Skipped: " in result.stderr
    assert not list((tmp_path / "again").rglob("*.h5"))


def test_what_was_imported_can_be_exported_and_imported_again(cache: Path, tmp_path: Path) -> None:
    entry, _ = again(tmp_path, "npz")
    run_export(tmp_path / "again", "webdataset", tmp_path / "second")
    run_import(tmp_path / "third", tmp_path / "second")
    assert only(tmp_path / "third").decoder == "imported:clip-video-encode:decord+pyav"
    assert entry.decoder == "imported:npz:decord+pyav"
    assert by_name(tmp_path / "third")["clip"].logit_scale == 43.4
