"""An export as a whole: the manifest, what is left alone, what goes wrong, what is said."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from clipcache.cache.common.errors import CacheError, UsageError
from clipcache.cache.export import formats, run
from clipcache.cache.export.manifest import Manifest
from clipcache.cache.export.run import Target, size_warnings
from clipcache.cache.select import Chosen
from export_caches import by_name, fill, run_export
from score_caches import make_video, put


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return fill(tmp_path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def spoil(path: Path) -> None:
    """Damage the features of an entry; what is before and after them stays."""
    with h5py.File(path) as file:
        offset = file["features"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 3] ^= 0xFF
    path.write_bytes(data)


def test_the_manifest_says_what_came_from_where(cache: Path, tmp_path: Path) -> None:
    result = run_export(cache, "csv", tmp_path / "out.csv", "--fps", 5, "--pool", "mean:4")
    made = records(tmp_path / "out.csv.manifest.jsonl")
    assert [(one["video"], one["first_row"], one["rows"]) for one in made] == [("a", 0, 3), ("b", 3, 1), ("c", 4, 5)]
    entry = by_name(cache)["b"]
    content = (tmp_path / "out.csv").read_bytes()
    assert made[1] == {
        "video": "b",
        "entry": str(entry.path),
        "entry_sha256": hashlib.sha256(entry.path.read_bytes()).hexdigest(),
        "attributes": dataclasses.asdict(entry.attributes),
        "format": "csv",
        "recipe": {"fps": 5.0, "pool": 4},
        "rows_per_second": 1.25,
        "rows": 1,
        "first_row": 3,
        "clipcache_version": made[1]["clipcache_version"],
        "files": [{"name": "out.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}],
    }
    assert "3 videos exported (9 rows), 0 already there, 0 failed" in result.stdout


@pytest.mark.parametrize("name", ["numpy", "webdataset", "h5"])
def test_what_is_there_is_left_alone(cache: Path, out: Path, name: str) -> None:
    run_export(cache, name, out)
    folder = out if out.is_dir() else out.parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix in (".npy", ".tar", "")}
    result = run_export(cache, name, out)
    assert "0 videos exported (0 rows), 3 already there, 0 failed" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_changed_is_written_again(cache: Path, out: Path, tmp_path: Path) -> None:
    run_export(cache, "npz", out)
    (out / "b.npz").unlink()
    put(cache, tmp_path / "videos" / "a.mp4", np.ones((2, 4)), created="2025-01-01T00:00:00+00:00")
    assert "2 videos exported (9 rows), 1 already there" in run_export(cache, "npz", out).stdout
    assert len(np.load(out / "a.npz")["features"]) == 2
    assert len(records(out / "manifest.jsonl")) == 3
    assert "3 videos exported" in run_export(cache, "npz", out, "--dtype", "float32").stdout


def test_a_killed_run_is_taken_up_where_it_was(cache: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    done: list[str] = []
    real = run.make_rows

    def make_rows(entry: Any, name: str, *more: Any) -> Any:
        done.append(name)
        return real(entry, name, *more) if len(done) != 3 else kill()

    monkeypatch.setattr(run, "make_rows", make_rows)
    assert "Aborted" in run_export(cache, "npz", out).stderr
    with (out / "manifest.jsonl").open("a") as file:
        file.write('{"video": "c", "fil')
    assert sorted(path.name for path in out.iterdir()) == ["a.npz", "b.npz", "manifest.jsonl"]
    assert "1 videos exported (33 rows), 2 already there" in run_export(cache, "npz", out).stdout
    assert [one["video"] for one in records(out / "manifest.jsonl")] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["parquet", "webdataset", "numpy"])
def test_a_damaged_entry_is_left_out_and_named(cache: Path, out: Path, name: str) -> None:
    bad = by_name(cache)["b"].path
    spoil(bad)
    result = run_export(cache, name, out)
    assert result.exit_code == 1
    assert "2 videos exported (53 rows), 0 already there, 1 failed" in result.stdout
    assert result.stderr.count("Skipped:") == 1
    assert str(bad) in result.stderr
    manifest = out / "manifest.jsonl" if out.is_dir() else out.with_name("out.manifest.jsonl")
    assert [(one["video"], one["first_row"]) for one in records(manifest)] == [
        ("a", 0),
        ("c", 0 if name == "numpy" else 20),
    ]
    assert not list(out.parent.rglob(".clipcache*"))


def test_an_entry_with_other_frames_is_left_out(cache: Path, out: Path, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "d.mp4"), sampling="every=16", frame_index=[0, 16, 32])
    result = run_export(cache, "npz", out, "--fps", 2)
    assert (result.exit_code, sorted(path.stem for path in out.glob("*.npz"))) == (1, ["a", "b", "c"])
    assert "cannot be taken" in result.stderr


def test_shards_of_a_larger_export_go(cache: Path, out: Path) -> None:
    run_export(cache, "webdataset", out, "--per-shard", 1)
    assert len(list(out.glob("*.tar"))) == 3
    run_export(cache, "webdataset", out, "--per-shard", 2)
    assert sorted(path.name for path in out.iterdir()) == [
        "00000_clip_embeddings.tar",
        "00001_clip_embeddings.tar",
        "manifest.jsonl",
    ]


def test_videos_exported_one_by_one_share_a_folder(cache: Path, out: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        run_export(cache, "npz", out, tmp_path / "videos" / name)
    assert [one["video"] for one in records(out / "manifest.jsonl")] == ["a", "b"]


FOREIGN_MANIFESTS = {
    "leads out of the folder": {"video": "a", "files": [{"name": "../precious", "bytes": 1, "sha256": ""}]},
    "an absolute path": {"video": "a", "files": [{"name": "/precious", "bytes": 1, "sha256": ""}]},
    "no files": {"video": "a", "files": []},
    "files of another kind": {"video": "a", "files": 3},
    "a data set's own": {"video": "a.mp4", "caption": "a cat"},
    "a list": [],
    "a text": "text",
}


@pytest.mark.parametrize("what", FOREIGN_MANIFESTS)
def test_a_foreign_manifest_is_neither_followed_nor_replaced(cache: Path, out: Path, tmp_path: Path, what: str) -> None:
    precious = make_video(tmp_path, "precious")
    out.mkdir()
    (out / "manifest.jsonl").write_text(json.dumps(FOREIGN_MANIFESTS[what]) + "\n")
    before = (out / "manifest.jsonl").read_bytes()
    with pytest.raises(UsageError, match="is not the manifest of an export"):
        run_export(cache, "webdataset", out)
    assert precious.exists()
    assert [path.read_bytes() for path in out.iterdir()] == [before]


@pytest.mark.parametrize(
    ("name", "in_the_way", "others"),
    [
        ("npz", "b.npz", ["a.npz", "c.npz"]),
        ("numpy", "b_fps.npy", ["a_clip.npy", "c_clip.npy"]),
        ("webdataset", "00001_clip_embeddings.tar", ["00000_clip_embeddings.tar", "00002_clip_embeddings.tar"]),
        ("clip-retrieval", "metadata/metadata_00001.parquet", ["img_emb/img_emb_00000.npy"]),
    ],
)
def test_a_file_that_no_export_made_stays_and_the_others_are_written(
    cache: Path, out: Path, name: str, in_the_way: str, others: list[str]
) -> None:
    foreign = out / in_the_way
    make_video(foreign.parent, foreign.name, b"the only copy")
    for _ in range(2):
        result = run_export(cache, name, out, "--per-shard", 1)
        assert result.exit_code == 1
        assert f"{in_the_way}' is there already and was not made by an export" in result.stderr
        assert "1 failed" in result.stdout
        assert foreign.read_bytes() == b"the only copy"
        assert all((out / other).is_file() for other in others)
    foreign.unlink()
    assert "1 videos exported" in run_export(cache, name, out, "--per-shard", 1).stdout


@pytest.mark.parametrize("name", ["h5", "csv", "parquet"])
def test_one_file_that_no_export_made_stays(cache: Path, out: Path, name: str) -> None:
    out.write_bytes(b"the only copy")
    result = run_export(cache, name, out)
    assert (result.exit_code, "3 failed" in result.stdout, out.read_bytes()) == (1, True, b"the only copy")


def test_a_shard_that_somebody_put_in_the_place_of_ours_is_not_removed(cache: Path, out: Path) -> None:
    run_export(cache, "webdataset", out, "--per-shard", 1)
    (out / "00002_clip_embeddings.tar").write_bytes(b"the only copy")
    run_export(cache, "webdataset", out, "--per-shard", 2)
    assert (out / "00002_clip_embeddings.tar").read_bytes() == b"the only copy"


@pytest.mark.parametrize("name", ["npz", "numpy", "torch", "h5-nested", "webdataset", "clip-retrieval"])
def test_exports_of_several_formats_share_a_folder(cache: Path, out: Path, name: str) -> None:
    one_file = formats.FORMATS[name].is_one_file
    run_export(cache, name, out / "one" if one_file else out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".jsonl"}
    for other in {"webdataset", "clip-retrieval"} - {name}:
        run_export(cache, other, out)
    assert {path: path.read_bytes() for path in before} == before
    assert "3 already there" in run_export(cache, name, out / "one" if one_file else out).stdout


@pytest.mark.parametrize("content", [b"the only copy", None], ids=["another size", "the same size"])
@pytest.mark.parametrize("name", ["npz", "numpy", "webdataset", "h5"])
def test_a_file_that_took_the_place_of_ours_stays(cache: Path, out: Path, name: str, content: bytes | None) -> None:
    run_export(cache, name, out)
    path = out if out.is_file() else min(path for path in out.rglob("*") if path.suffix != ".jsonl")
    content = content or bytes(reversed(path.read_bytes()))
    path.write_bytes(content)
    for more in ((), ("--normalize",), ("--normalize",)):
        result = run_export(cache, name, out, *more)
        assert result.exit_code == 1
        assert f"{path.name}' is there already and was not made by an export" in result.stderr
        assert path.read_bytes() == content
    path.unlink()
    assert " 0 failed" in run_export(cache, name, out).stdout
    assert path.read_bytes() != content


def test_an_entry_that_changed_without_changing_its_size_is_exported_again(
    cache: Path, out: Path, tmp_path: Path
) -> None:
    run_export(cache, "npz", out)
    features = by_name(cache)["a"].features + 1  # same attributes, same size, to the second
    put(cache, tmp_path / "videos" / "a.mp4", features)
    assert "1 videos exported (20 rows), 2 already there" in run_export(cache, "npz", out).stdout
    assert np.load(out / "a.npz")["features"].tobytes() == features.tobytes()


@pytest.mark.once
@pytest.mark.parametrize("name", ["npz", "numpy", "webdataset", "h5"])
@pytest.mark.parametrize("again", [False, True])
def test_a_run_killed_at_any_step_is_taken_up(
    cache: Path, out: Path, tmp_path: Path, name: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th time that anything is renamed, synced, or appended to the manifest, the run dies."""

    def content(folder: Path) -> dict[str, bytes]:
        files = folder.rglob("*") if folder.is_dir() else [folder]
        return {path.name: path.read_bytes() for path in files if path.is_file() and path.suffix != ".jsonl"}

    run_export(cache, name, tmp_path / "whole" / "out", "--per-shard", 2)
    if again:  # over an earlier export of other values
        run_export(cache, name, out, "--per-shard", 2, "--normalize")
    steps = 0
    for step in range(100):
        with monkeypatch.context() as patch:
            count = iter(range(1000))
            for owner, call in ((os, "replace"), (os, "fsync"), (Manifest, "put")):
                patch.setattr(owner, call, _dying(getattr(owner, call), count, step))
            result = run_export(cache, name, out, "--per-shard", 2)
        if result.exit_code == 0:
            break
        steps += 1
        assert "Aborted" in result.stderr
    assert steps > 3
    assert content(out) == content(tmp_path / "whole" / "out")
    assert "3 already there, 0 failed" in run_export(cache, name, out, "--per-shard", 2).stdout


def test_a_run_killed_several_times_before_it_writes_knows_its_file(
    cache: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written, and the file has the content of the record before it."""
    run_export(cache, "npz", out)
    for more in (("--normalize",), ("--every", 2), ("--normalize", "--every", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(Manifest, "put", _dying(Manifest.put, iter(range(1000)), 1))
            assert "Aborted" in run_export(cache, "npz", out, *more).stderr
    with monkeypatch.context() as patch:  # before the first record
        patch.setattr(Manifest, "put", _dying(Manifest.put, iter(range(1000)), 0))
        assert "Aborted" in run_export(cache, "npz", out, "--dtype", "float32").stderr
    result = run_export(cache, "npz", out, "--dtype", "float32")
    assert (result.exit_code, "3 videos exported" in result.stdout) == (0, True)
    assert len(records(out / "manifest.jsonl")) == 3


def _dying(call: Callable[..., Any], count: Iterator[int], step: int) -> Callable[..., Any]:
    """A function that dies before or after it has done its work, at the step of that number."""

    def wrapped(*given: Any, **named: Any) -> Any:
        if next(count) == step:
            raise KeyboardInterrupt
        result = call(*given, **named)
        if next(count) == step:
            raise KeyboardInterrupt
        return result

    return wrapped


def test_an_output_of_the_wrong_kind_is_refused(cache: Path, out: Path, tmp_path: Path) -> None:
    out.mkdir()
    with pytest.raises(UsageError, match="is a folder, where h5 writes one file"):
        run_export(cache, "h5", out)
    with pytest.raises(UsageError, match="is a file, where npz needs a folder"):
        run_export(cache, "npz", make_video(tmp_path, "file"))
    assert run_export(cache, "webdataset", out, "--per-shard", 0).exit_code == 2


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path, out: Path) -> None:
    path = put(tmp_path / "features", make_video(tmp_path, "a.mp4"))
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(CacheError, match="no entry that can be read"):
        run_export(tmp_path / "features", "npz", out)
    assert not out.exists()


def test_a_disk_that_takes_nothing_ends_the_run(cache: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipcache.cache.export.numpy_triple.write_npy", full)
    with pytest.raises(CacheError, match="No space left on device"):
        run_export(cache, "numpy", out)
    assert [path.name for path in out.iterdir()] == ["manifest.jsonl"]


def test_a_large_csv_is_warned_of(tmp_path: Path) -> None:
    attributes = by_name(fill(tmp_path))["a"].attributes
    many = [Chosen(tmp_path, attributes, "x")] * 200_000
    (sentence,) = size_warnings(many, Target(tmp_path, formats.FORMATS["csv"]))
    assert "about 144 MB" in sentence
    assert size_warnings(many[:3], Target(tmp_path, formats.FORMATS["csv"])) == []
    assert size_warnings(many, Target(tmp_path, formats.FORMATS["npz"])) == []


def test_an_export_does_not_go_to_the_standard_output(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="not to the standard output; name a file or folder"):
        run_export(cache, "csv", Path("-"))
    assert not Path("-").exists()
