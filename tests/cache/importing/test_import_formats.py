"""Files of other programs: clip-video-encode, clip-retrieval, torch, Parquet; and pickles, which are not read."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import UsageError
from export_caches import DIM, run_export, run_import
from score_caches import make_video, put
from test_import_bad import Malice
from test_import_run import B32, FEATURES

TIMES = np.arange(5) * 40.0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entries(cache: Path) -> dict[str, Entry]:
    return {entry.video_name: entry for entry in FeatureCache(cache)}


def test_clip_video_encode_writes_an_array_beside_each_video(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "in"
    make_video(folder, "one.mp4")
    for number, stem in enumerate(("one", "two", "three")):
        np.save(folder / f"{stem}.npy", FEATURES + number)
    (folder / "two.json").write_text(json.dumps({"caption": "a cat", "timestamps_ms": TIMES.tolist()}))
    assert "2 videos imported" in run_import(cache, folder, *B32, "--fps", 25).stdout  # three may be anything
    assert sorted(entries(cache)) == ["one.mp4", "two"]
    assert entries(cache)["two"].timestamps_ms.tolist() == TIMES.tolist()
    assert {entry.decoder for entry in FeatureCache(cache)} == {"imported:clip-video-encode"}
    run_import(cache, folder / "three.npy", *B32, "--fps", 5)
    assert entries(cache)["three"].sampling == "fps=5"


def test_the_other_files_of_a_triple_are_no_features(tmp_path: Path, cache: Path) -> None:
    from test_import_run import triple

    triple(tmp_path / "in")
    for name in ("clip_timestamps_ms", "clip_fps"):
        (tmp_path / "in" / f"{name}.json").write_text("{}")
    result = run_import(cache, tmp_path / "in", *B32)
    assert (result.exit_code, list(entries(cache))) == (0, ["clip"])


def clip_retrieval(folder: Path, table: dict[str, Any], rows: int = 8) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    np.save(folder / "img_emb" / "img_emb_0.npy", np.arange(rows * DIM, dtype=np.float16).reshape(rows, DIM))
    parquet.write_table(pa.table(table), folder / "metadata" / "metadata_0.parquet")
    return folder


def test_clip_retrieval_is_split_by_the_rows_that_name_videos(tmp_path: Path, cache: Path) -> None:
    places = [f"trip/a.mp4#t={row}.000" for row in range(3)] + [f"b.webm#t={row}.5" for row in range(5)]
    folder = clip_retrieval(tmp_path / "in", {"image_path": places})
    run_import(cache, folder, *B32)
    found = entries(cache)
    assert {name: (len(entry), entry.timestamps_ms[0]) for name, entry in found.items()} == {"a": (3, 0), "b": (5, 500)}
    assert found["b"].features[0].tolist() == [12, 13, 14, 15]
    assert found["a"].sampling == "fps=1"


@pytest.mark.parametrize(
    ("table", "rows", "sentence"),
    [
        ({"image_path": [f"{row}.jpg" for row in range(8)]}, 8, "does not say which video each row is of"),
        ({"caption": ["x"] * 8}, 8, "does not say which video each row is of"),
        ({"video": ["a"] * 8}, 9, "names 8 rows"),
        ({"video": ["a", "b"] * 4}, 8, "rows of 'a' in several places"),
        ({"video": [None] * 8}, 8, "Parquet"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, cache: Path, table: dict[str, Any], rows: int, sentence: str
) -> None:
    result = run_import(cache, clip_retrieval(tmp_path / "in", table, rows), *B32, "--fps", 1)
    assert (result.exit_code, sentence in result.stderr) == (1, True), result.stderr


def test_a_table_that_repeats_a_name_is_small(tmp_path: Path, cache: Path) -> None:
    folder = clip_retrieval(tmp_path / "in", {"video": ["a"] * 200_000}, 200_000)
    np.save(folder / "img_emb" / "img_emb_0.npy", np.ones((200_000, DIM), np.float16))
    run_import(cache, folder, *B32, "--fps", 25)
    assert len(entries(cache)["a"]) == 200_000


def test_an_array_without_its_table_is_refused(tmp_path: Path, cache: Path) -> None:
    folder = clip_retrieval(tmp_path / "in", {"video": ["a"] * 8})
    (folder / "metadata" / "metadata_0.parquet").unlink()
    result = run_import(cache, folder, *B32)
    assert (result.exit_code, "that names its rows" in result.stderr) == (1, True)


def test_parquet_of_others_needs_two_columns(tmp_path: Path, cache: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = {"video": ["a"] * 3 + ["b"] * 2, "features": list(FEATURES.astype(np.float32)), "timestamp_ms": TIMES}
    pandas.DataFrame(table).to_parquet(tmp_path / "x.parquet")
    run_import(cache, tmp_path / "x.parquet", *B32)
    assert {name: len(entry) for name, entry in entries(cache).items()} == {"a": 3, "b": 2}
    pandas.DataFrame({"id": [1]}).to_parquet(tmp_path / "y.parquet")
    assert "no columns video and features" in run_import(cache, tmp_path / "y.parquet", *B32).stderr


def test_a_long_video_crosses_the_groups_of_rows(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("pyarrow")
    features = np.random.default_rng(0).normal(size=(20_000, DIM))
    for number, name in enumerate(("a.mp4", "b.mp4")):
        put(tmp_path / "features", make_video(tmp_path, name), features + number)
    run_export(tmp_path / "features", "parquet", tmp_path / "out.parquet")
    run_import(cache, tmp_path / "out.parquet")
    for name, entry in entries(tmp_path / "features").items():
        assert np.array_equal(entries(cache)[name].features, entry.features)


def test_a_tensor_alone_is_taken_with_a_rate(tmp_path: Path, cache: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.from_numpy(FEATURES), tmp_path / "clip.pt")
    run_import(cache, tmp_path / "clip.pt", *B32, "--fps", 25)
    assert entries(cache)["clip"].features.tobytes() == FEATURES.tobytes()


def _archive_of(path: Path, compression: int) -> None:
    """The same archive with its members compressed, which torch reads as well."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _compressed(path: Path, torch: Any) -> None:
    torch.save({"features": torch.zeros(1000, DIM)}, path)
    _archive_of(path, zipfile.ZIP_DEFLATED)


BAD_TORCH: dict[str, tuple[Callable[[Path, Any], object], str]] = {
    "objects": (lambda path, torch: torch.save({"features": Malice()}, path), "not a file of tensors"),
    "objects beside": (
        lambda path, torch: torch.save({"features": torch.ones(5, DIM), "x": Malice()}, path),
        "tensors",
    ),
    "a pickle": (lambda path, torch: path.write_bytes(pickle.dumps({"features": Malice()})), "not a file of tensors"),
    "a list": (lambda path, torch: torch.save([1, 2], path), "it is not a dict"),
    "other names": (lambda path, torch: torch.save({"x": torch.ones(5, DIM)}, path), "no tensor named features"),
    "spread out": (
        lambda path, torch: torch.save({"features": torch.ones(1, 1).expand(10**9, DIM)}, path),
        "more values than it holds",
    ),
    "compressed": (_compressed, "a compressed archive"),
    "bfloat16": (lambda path, torch: torch.save({"features": torch.ones(5, DIM).bfloat16()}, path), "tensors"),
    "empty": (lambda path, torch: path.write_bytes(b""), "not a file of tensors"),
}


@pytest.mark.parametrize("what", BAD_TORCH)
def test_files_of_torch_run_no_code_and_hold_no_more_than_their_size(
    tmp_path: Path, cache: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    make, sentence = BAD_TORCH[what]
    make(tmp_path / "clip.pt", torch)
    monkeypatch.chdir(tmp_path)
    result = run_import(cache, tmp_path / "clip.pt", *B32, "--fps", 25)
    assert (result.exit_code, sentence in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("named", [True, False])
def test_pickles_are_not_read_and_the_advice_names_a_format(
    tmp_path: Path, cache: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip.pkl").write_bytes(pickle.dumps(Malice()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a pickle can run any code; export the features again with --format npz"):
        run_import(cache, tmp_path / "in" / ("clip.pkl" if named else ""), *B32)
    assert not (tmp_path / "unpickled").exists()


def test_parquet_that_repeats_one_value_a_billion_times_is_refused(tmp_path: Path, cache: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4_000_000, np.float32)), DIM)
    table = pa.table({"video": pa.array(["a"] * len(values)), "features": values})
    parquet.write_table(table, tmp_path / "x.parquet", compression="zstd")
    result = run_import(cache, tmp_path / "x.parquet", *B32, "--fps", 25)
    assert (result.exit_code, "far more than it holds" in result.stderr) == (1, True)


def test_damaged_parquet_is_named(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("pyarrow")
    put(tmp_path / "features", make_video(tmp_path, "a.mp4"), np.random.default_rng(0).normal(size=(500, DIM)))
    run_export(tmp_path / "features", "parquet", tmp_path / "x.parquet")
    sound = (tmp_path / "x.parquet").read_bytes()
    for start in (len(sound) // 2, len(sound) - 20):
        (tmp_path / "x.parquet").write_bytes(sound[:start] + b"\xff" * 8 + sound[start + 8 :])
        result = run_import(cache, tmp_path / "x.parquet")
        assert "x.parquet" in result.stderr
        assert result.exit_code == 1


def test_groups_of_hdf5_are_not_followed_out_of_the_file(tmp_path: Path, cache: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = FEATURES
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("clip")["features"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
    result = run_import(cache, tmp_path / "x.h5", *B32, "--fps", 25)
    assert (result.exit_code, "not a dataset of its own" in result.stderr) == (1, True)


def test_every_format_that_comes_back_is_read_by_a_rule(tmp_path: Path) -> None:
    """The docs' table of rules names them all, and no other."""
    from checkout import CHECKOUT
    from clipcache.cache.importing.formats import RULES

    page = CHECKOUT / "docs" / "export.md"
    if not page.is_file():
        pytest.skip("the docs lie in the checkout")
    rows = re.findall(r"^\| `([a-z_0-9-]+)` \| `", page.read_text("utf-8").partition("\n## Import\n")[2], re.MULTILINE)
    assert set(rows) == {rule.name for rule in RULES}
