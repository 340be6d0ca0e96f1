"""Every format, opened by the library that its users use, holds what the cache holds, bit by bit."""

from __future__ import annotations

import csv
import gc
import json
import pickle
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.cache.export.npy import npy_header
from export_caches import DIM, by_name, fill, run_export

COUNTS = {"a": 20, "b": 7, "c": 33}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return fill(tmp_path)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


def test_numpy_is_the_triple_of_video_features(cache: Path, videos: Path, tmp_path: Path) -> None:
    run_export(cache, "numpy", tmp_path / "out", videos)
    for stem, place in (("a", "a"), ("b", "b"), ("c", "trip/c")):
        entry = by_name(cache)[stem]
        features, times, fps = (
            np.load(tmp_path / "out" / f"{place}_{what}.npy") for what in ("clip", "timestamps_ms", "fps")
        )
        assert (features.dtype, features.tobytes()) == (np.float16, entry.features.tobytes())
        assert (times.dtype, times.tolist()) == (np.float64, entry.timestamps_ms.tolist())
        assert (fps.shape, float(fps)) == ((), entry.fps)


def test_npz_has_the_key_features(cache: Path, tmp_path: Path) -> None:
    run_export(cache, "npz", tmp_path / "out", "--text", "a cat", "--text", "a dog", "--normalize")
    for stem, entry in by_name(cache).items():
        with np.load(tmp_path / "out" / f"{stem}.npz") as arrays:
            assert np.linalg.norm(arrays["features"], axis=1) == pytest.approx(1, abs=1e-6)
            assert arrays["features"].dtype == np.float32
            assert arrays["timestamps_ms"].tolist() == entry.timestamps_ms.tolist()
            assert arrays["frame_index"].tolist() == list(range(len(entry)))
            assert float(arrays["fps"]) == 10.0
            assert arrays["texts"].tolist() == ["cosine:a cat", "cosine:a dog"]
            assert arrays["cosine"].shape == (len(entry), 2)
            assert arrays["cosine"][3].tolist() == pytest.approx([0.03, 0.13])


def test_equal_content_gives_equal_bytes(cache: Path, tmp_path: Path) -> None:
    for name in ("npz", "webdataset"):
        for copy in ("one", "two"):
            run_export(cache, name, tmp_path / name / copy)
        one, two = (
            {path.name: path.read_bytes() for path in (tmp_path / name / copy).iterdir() if path.suffix != ".jsonl"}
            for copy in ("one", "two")
        )
        assert one
        assert one == two


def test_pickle_and_torch_are_dicts(cache: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    run_export(cache, "pickle", tmp_path / "out")
    run_export(cache, "torch", tmp_path / "out", "--text", "a cat")
    entry = by_name(cache)["a"]
    held = pickle.loads((tmp_path / "out" / "a.pkl").read_bytes())  # noqa: S301 - our own
    assert sorted(held) == ["features", "fps", "frame_index", "metadata", "timestamps_ms"]
    assert held["features"].tobytes() == entry.features.tobytes()
    tensors = torch.load(tmp_path / "out" / "a.pt", weights_only=True)
    assert tensors["features"].dtype == torch.float16
    assert tensors["features"].numpy().tobytes() == entry.features.tobytes()
    assert tensors["timestamps_ms"].tolist() == entry.timestamps_ms.tolist()
    assert (tensors["fps"], len(tensors["cosine:a cat"])) == (10.0, 20)


def test_h5_is_flat(cache: Path, videos: Path, tmp_path: Path) -> None:
    run_export(cache, "h5", tmp_path / "out.h5", videos)
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == ["a", "b", "trip_c"]
        assert file["trip_c"][:].tobytes() == by_name(cache)["c"].features.tobytes()
        assert (file["a"].dtype, file["a"].chunks) == (np.float16, None)


def test_h5_nested_has_every_attribute(cache: Path, tmp_path: Path) -> None:
    run_export(cache, "h5-nested", tmp_path / "out.h5", "--every", 4, "--text", "a cat")
    entry = by_name(cache)["a"]
    with h5py.File(tmp_path / "out.h5") as file:
        group = file["a"]
        assert group["features"][:].tobytes() == entry.features[::4].tobytes()
        assert group["timestamps_ms"][:].tolist() == entry.timestamps_ms[::4].tolist()
        assert group["frame_index"][:].tolist() == [0, 4, 8, 12, 16]
        assert (group["texts"][0], group["cosine"].shape) == (b"cosine:a cat", (5, 1))
        said = {name: value.decode() if isinstance(value, bytes) else value for name, value in group.attrs.items()}
    assert said["video_sha256"] == entry.video_sha256
    assert (said["sampling"], said["rows_per_second"], said["model"]) == ("every=4", 2.5, "ViT-B/32")


def test_parquet_has_a_row_a_frame(cache: Path, videos: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    parquet = pytest.importorskip("pyarrow.parquet")
    run_export(cache, "parquet", tmp_path / "out.parquet", videos, "--text", "a cat")
    table = pandas.read_parquet(tmp_path / "out.parquet")
    assert table.groupby("video").size().to_dict() == {"a": 20, "b": 7, "trip/c": 33}
    entry, rows = by_name(cache)["c"], table[table.video == "trip/c"]
    assert np.stack(rows.features.to_list()).astype(np.float16).tobytes() == entry.features.tobytes()
    assert rows.timestamp_ms.tolist() == entry.timestamps_ms.tolist()
    assert rows.frame_index.tolist() == list(range(33))
    assert rows["cosine:a cat"].tolist() == pytest.approx([frame / 100 for frame in range(33)])
    held = parquet.ParquetFile(tmp_path / "out.parquet")
    assert held.metadata.row_group(0).column(0).compression == "ZSTD"
    assert json.loads(held.schema_arrow.metadata[b"clipcache"])["model"] == "ViT-B/32"


def test_parquet_videos_has_a_row_a_video(cache: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    run_export(cache, "parquet-videos", tmp_path / "out.parquet", "--pool", "mean:16")
    table = pandas.read_parquet(tmp_path / "out.parquet").set_index("video")
    assert table.rows.to_dict() == {"a": 2, "b": 1, "c": 3}
    entry = by_name(cache)["c"]
    means = [entry.features[first : first + 16].astype(np.float64).mean(axis=0) for first in (0, 16, 32)]
    assert np.stack(table.features["c"]).tobytes() == np.array(means, np.float32).tobytes()
    assert table.timestamps_ms["c"].tolist() == [0.0, 1600.0, 3200.0]
    assert (table.video_sha256["c"], table.fps["c"]) == (entry.video_sha256, 0.625)


@pytest.mark.parametrize("library", ["polars", "duckdb"])
@pytest.mark.parametrize("name", ["parquet", "parquet-videos"])
def test_parquet_is_read_by_others(cache: Path, tmp_path: Path, library: str, name: str) -> None:
    module = pytest.importorskip(library)
    path = tmp_path / "out.parquet"
    run_export(cache, name, path)
    if library == "polars":
        found = module.read_parquet(path)["video"].to_list()
    else:
        found = [row[0] for row in module.read_parquet(str(path)).fetchall()]
    assert sorted(set(found)) == ["a", "b", "c"]


def test_a_video_too_long_for_one_row_is_left_out(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcache.cache.export.parquet._MAX_ROW_BYTES", 20 * DIM * 4)
    result = run_export(cache, "parquet-videos", tmp_path / "out.parquet")
    assert (result.exit_code, "'c' is too long for one row" in result.stderr) == (1, True)
    assert "2 videos exported (27 rows)" in result.stdout


def test_csv_gives_the_same_bits_back(cache: Path, tmp_path: Path) -> None:
    run_export(cache, "csv", tmp_path / "out.csv", "--text", "a, or b")
    with (tmp_path / "out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = [line for line in lines if line["video"] == "a"]
    features = np.array([[row[f"f{column}"] for column in range(DIM)] for row in rows]).astype(np.float16)
    assert features.tobytes() == by_name(cache)["a"].features.tobytes()
    assert [float(row["timestamp_ms"]) for row in rows] == by_name(cache)["a"].timestamps_ms.tolist()
    assert [row["cosine:a, or b"] for row in rows[:3]] == ["0.0", "0.01", "0.02"]


def test_clip_retrieval_finds_its_folders(cache: Path, videos: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    run_export(cache, "clip-retrieval", tmp_path / "out", videos, "--per-shard", 2)
    shards = [np.load(path) for path in sorted((tmp_path / "out" / "img_emb").iterdir())]
    tables = [pandas.read_parquet(path) for path in sorted((tmp_path / "out" / "metadata").iterdir())]
    assert [shard.shape for shard in shards] == [(27, DIM), (33, DIM)]
    assert [len(table) for table in tables] == [27, 33]
    assert shards[0].dtype == np.float16
    features = by_name(cache)["b"].features.astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert shards[0][20:].tobytes() == unit.astype(np.float16).tobytes()
    assert tables[0].image_path[21] == "b.mp4#t=0.100"
    assert tables[1].video.unique().tolist() == ["trip/c"]


def test_webdataset_reads_the_shards(cache: Path, videos: Path, tmp_path: Path) -> None:
    run_export(cache, "webdataset", tmp_path / "out", videos, "--per-shard", 2, "--text", "a cat")
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert [path.name for path in shards] == ["00000_clip_embeddings.tar", "00001_clip_embeddings.tar"]
    with tarfile.open(shards[0]) as shard:
        assert shard.getnames() == ["a.npy", "a.json", "a.rows.json", "b.npy", "b.json", "b.rows.json"]
    webdataset = pytest.importorskip("webdataset")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the garbage collector
        found = webdataset.WebDataset([str(path) for path in shards], shardshuffle=False).decode()
        samples = {sample["__key__"]: sample for sample in found}
        del found
        gc.collect()
    assert sorted(samples) == ["a", "b", "trip/c"]
    entry = by_name(cache)["c"]
    assert samples["trip/c"]["npy"].tobytes() == entry.features.tobytes()
    assert samples["trip/c"]["rows.json"]["timestamps_ms"] == entry.timestamps_ms.tolist()
    assert samples["trip/c"]["json"]["video_sha256"] == entry.video_sha256
    assert len(samples["trip/c"]["rows.json"]["cosine:a cat"]) == 33


def test_a_header_has_room_for_any_number_of_rows() -> None:
    lengths = {len(npy_header((rows, 512), np.dtype(np.float16))) for rows in (0, 1, 10**6, 2**62)}
    assert len(lengths) == 1


def test_without_pyarrow_a_sentence_says_what_to_install(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"pip install 'clipcache\[parquet\]'"):
        run_export(cache, "parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_no_format_is_loaded_before_it_is_asked_for() -> None:
    program = (
        "import sys, clipcache.cache.export.command, clipcache.cache.importing.command;"
        "print(*sorted({'numpy', 'h5py', 'pyarrow', 'pandas', 'torch', 'tqdm'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
