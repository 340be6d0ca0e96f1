"""A packed library: the same entries in one file, for every command, and back again to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cache_entries import DIM, make_attributes, make_features, put_entry, sha256_of
from click.testing import CliRunner, Result
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import ClipcacheError, ContentError, EntryError, NotCachedError, UsageError
from clipcache.cache.format.packed import feature_memmap, video_offsets
from clipcache.cache.format.sampling import Sampling
from clipcache.cache.format.write import write_entry
from clipcache.cache.pack import pack
from clipcache.cache.verify import verify
from clipcache.cli import cli


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def put_pictures(cache: Path) -> Path:
    """An entry of images in float32, with names and a measure: everything that an entry may hold."""
    made = {"source_kind": "image-folder", "video_name": "burst é", "video_sha256": sha256_of("burst")}
    attributes = make_attributes(**made, frames_expected=3, frames_decoded=3)
    features = make_features(3, seed=7).astype(np.float32) / 3
    quality = {"sharpness": np.array([1, 2, 3], np.float32)}
    names = ["a.jpg", "ü.jpg", "c.png"]
    return write_entry(cache, attributes, features, np.zeros(3), np.arange(3), names, quality)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three entries: 50 frames, 20 sampled frames, three pictures."""
    folder = tmp_path / "features"
    put_entry(folder, 50, seed=1)
    put_entry(
        folder, 20, seed=2, video_sha256=sha256_of("b"), video_name="b.mp4", sampling="every=5", frames_expected=100
    )
    put_pictures(folder)
    return folder


@pytest.fixture
def packed(cache: Path, tmp_path: Path) -> Path:
    result = run("cache", "pack", tmp_path / "library.h5", "--cache", cache)
    assert result.exit_code == 0
    assert result.stdout.startswith("3 entries, 73 frames, ")
    return tmp_path / "library.h5"


def content(entry: Entry) -> tuple[Any, ...]:
    """Everything that an entry holds, comparable; arrays with their type."""
    arrays = [entry.features, entry.timestamps_ms, entry.frame_index, *(v for _, v in sorted(entry.quality.items()))]
    return entry.attributes, entry.frame_names, [(str(a.dtype), a.shape, a.tobytes()) for a in arrays]


def contents(path: Path) -> dict[str, tuple[Any, ...]]:
    return {"/".join(entry.path.parts[-3:]): content(entry) for entry in FeatureCache(path)}


def test_a_packed_library_holds_the_same_to_the_last_bit(cache: Path, packed: Path) -> None:
    assert contents(packed) == contents(cache)


def test_unpacking_gives_the_same_cache(cache: Path, packed: Path, tmp_path: Path) -> None:
    result = run("cache", "unpack", packed, "--into", tmp_path / "again")
    assert result.stdout.startswith("3 entries written")
    assert contents(tmp_path / "again") == contents(cache)
    assert run("cache", "unpack", packed, "--into", tmp_path / "again").stdout.startswith("0 entries written")


def test_slices_and_blocks_read_only_their_rows(cache: Path, packed: Path) -> None:
    for whole, part in zip(FeatureCache(cache), FeatureCache(packed), strict=True):
        if whole.sampling == "all":
            assert part.slice(every=2).features.tobytes() == whole.features[::2].tobytes()
        blocks = list(part.iter_features(block=7))
        assert max(map(len, blocks)) <= 7
        assert np.concatenate(blocks).tobytes() == whole.features.tobytes()


def test_features_can_be_mapped_without_hdf5(cache: Path, packed: Path) -> None:
    features, offsets = feature_memmap(packed), video_offsets(packed)
    assert isinstance(features, np.memmap)
    assert features.dtype == np.float32, "one entry is float32, so the float16 ones are widened"
    for number, entry in enumerate(FeatureCache(cache)):
        np.testing.assert_array_equal(features[offsets[number] : offsets[number + 1]], entry.features)


def test_names_are_found_without_opening(packed: Path) -> None:
    library = FeatureCache(packed)
    (model,) = library.models()
    found = library.find(model.name, sha256_of("holiday"))
    assert found is not None
    assert Entry(found).video_name == "holiday.mp4"
    assert library.find(model.name, sha256_of("b")) is None
    assert library.find(model.name, sha256_of("b"), Sampling(every=10)) is not None
    assert library.find(model.name, sha256_of("b"), Sampling(every=10), fresh=True) is not None


def test_every_reading_command_takes_it(packed: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "asked.npy", np.eye(2, DIM))
    asked = ["--text-embeddings", tmp_path / "asked.npy", "--format", "json", "--every", 5]
    from_pack = run("score", "--cache", packed, *asked)
    assert from_pack.exit_code == 0
    assert len(json.loads(from_pack.stdout)) == 6
    assert run("consistency", "--cache", packed).exit_code == 0
    assert len(json.loads(run("cache", "ls", "--cache", packed, "--json").stdout)) == 3
    assert run("cache", "verify", "--cache", packed).exit_code == 0


def test_scores_are_those_of_the_folder(cache: Path, packed: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "asked.npy", np.eye(2, DIM))
    asked = ["--text-embeddings", tmp_path / "asked.npy", "--format", "json"]
    assert run("score", "--cache", packed, *asked).stdout == run("score", "--cache", cache, *asked).stdout


def test_a_flipped_bit_is_found(packed: Path) -> None:
    with h5py.File(packed) as file:
        offset = file["features"].id.get_offset()
    data = bytearray(packed.read_bytes())
    data[offset + 40] ^= 1
    packed.write_bytes(data)
    problems = [finding.problem for finding in verify(FeatureCache(packed)) if finding.problem]
    assert len(problems) == 1
    assert "wrong checksum" in problems[0]
    assert run("cache", "verify", "--cache", packed).exit_code == 1


def test_verify_counts_the_entries(packed: Path) -> None:
    assert run("cache", "verify", "--cache", packed).stdout == "3 entries checked: 3 good, 0 bad\n"


def test_nothing_can_be_extracted_into_it(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clipcache cache unpack"):
        run("extract", tmp_path, "--cache", packed, "--model", "demo")


def test_features_of_two_lengths_are_not_packed(cache: Path, tmp_path: Path) -> None:
    attributes = make_attributes(video_sha256=sha256_of("z"), embed_dim=DIM + 1, frames_decoded=2, frames_expected=2)
    write_entry(cache, attributes, make_features(2, DIM + 1), np.arange(2.0), np.arange(2))
    with pytest.raises(ContentError, match="not of one model"):
        run("cache", "pack", tmp_path / "library.h5", "--cache", cache)
    assert not (tmp_path / "library.h5").exists()


def test_a_library_and_what_is_in_it_can_be_named(cache: Path, packed: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "asked.npy", np.eye(1, DIM))
    asked = ["--text-embeddings", tmp_path / "asked.npy", "--format", "json", "--cache", packed]
    assert len(json.loads(run("score", packed, *asked).stdout)) == 3
    assert len(json.loads(run("score", FeatureCache(packed).entries()[0].path, *asked).stdout)) == 1


def test_a_video_that_is_not_in_it_is_extracted_elsewhere(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "new.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    np.save(tmp_path / "asked.npy", np.eye(1, DIM))
    with pytest.raises(NotCachedError, match=r"--cache DIR .*name that folder"):
        run("score", tmp_path / "new.mp4", "--text-embeddings", tmp_path / "asked.npy", "--cache", packed)


def test_a_folder_that_holds_a_library_too_is_its_entries(cache: Path, tmp_path: Path) -> None:
    run("cache", "pack", tmp_path / "library.h5", "--cache", cache)
    (tmp_path / "library.h5").rename(cache / "library.h5")
    np.save(tmp_path / "asked.npy", np.eye(2, DIM))
    result = run("score", cache, "--text-embeddings", tmp_path / "asked.npy", "--cache", cache)
    assert (result.exit_code, "Skipped" in result.stderr) == (0, False)


def test_a_bad_entry_is_left_out_and_said(cache: Path, tmp_path: Path) -> None:
    victim = next(iter(FeatureCache(cache))).path
    victim.write_bytes(victim.read_bytes()[:3000])
    result = run("cache", "pack", tmp_path / "library.h5", "--cache", cache)
    assert result.exit_code == 1
    assert victim.name in result.stderr
    assert len(FeatureCache(tmp_path / "library.h5")) == 2


def test_an_interrupted_pack_leaves_the_old_file(cache: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = packed.read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clipcache.cache.pack._write_rows", fail)
    with pytest.raises(KeyboardInterrupt):
        pack(FeatureCache(cache), packed, lambda _, error: pytest.fail(str(error)))
    assert packed.read_bytes() == before
    assert [path.name for path in packed.parent.iterdir() if path.name.startswith(".")] == []


def spoil_offsets(file: Any) -> None:
    file["video_offsets"][1] = -4


def spoil_version(file: Any) -> None:
    file.attrs["packed_version"] = 99


def spoil_link(file: Any) -> None:
    del file["timestamps_ms"]
    file["timestamps_ms"] = h5py.ExternalLink("/etc/hostname", "/x")


def spoil_external(file: Any) -> None:
    shape = file["features"].shape
    del file["features"]
    file.create_dataset("features", shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def spoil_size(file: Any) -> None:
    del file["features"]
    file.create_dataset("features", (1 << 40, DIM), "f2")


def rename_entry(file: Any, name: bytes) -> None:
    names = file["entries/names"][:].astype("S200")
    names[0] = name
    del file["entries/names"]
    file["entries/names"] = names


def spoil_place(file: Any) -> None:
    rename_entry(file, b"/etc/ViT-B-32-cdcdcdcd/ab/x-abababababababab.h5")


def spoil_way_out(file: Any) -> None:
    rename_entry(file, b"ViT-B-32-cdcdcdcd/../../x-abababababababab.h5")


def spoil_twin(file: Any) -> None:
    rename_entry(file, file["entries/names"][1])


def spoil_table(file: Any) -> None:
    del file["entries/attributes/model"]


def spoil_width(file: Any) -> None:
    file["entries/attributes/embed_dim"][0] = DIM + 1


def spoil_schema(file: Any) -> None:
    file["entries/attributes/schema_version"][1] = 3


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_offsets,
        spoil_version,
        spoil_link,
        spoil_external,
        spoil_size,
        spoil_table,
        spoil_place,
        spoil_way_out,
        spoil_twin,
        spoil_width,
        spoil_schema,
    ],
)
def test_a_hostile_file_is_one_clear_error(packed: Path, spoil: Any) -> None:
    with h5py.File(packed, "r+") as file:
        spoil(file)
    with pytest.raises(EntryError, match=r"library\.h5") as caught:
        list(FeatureCache(packed))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"not HDF5 at all"])
def test_what_is_no_packed_library_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(data)
    with pytest.raises(ClipcacheError, match=r"not a packed library"):
        FeatureCache(path)


def test_an_entry_is_not_a_packed_library(cache: Path) -> None:
    with pytest.raises(EntryError, match="not a packed library"):
        FeatureCache(next(iter(FeatureCache(cache))).path)


def test_the_name_must_end_in_h5(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.h5"):
        run("cache", "pack", tmp_path / "library.bin", "--cache", cache)


def test_bad_entries_are_not_removed_with_the_whole_library(packed: Path) -> None:
    with pytest.raises(UsageError, match="pack it again"):
        run("cache", "verify", "--cache", packed, "--delete-bad")
    with pytest.raises(UsageError, match="nothing is removed"):
        run("cache", "prune", "--cache", packed, "--videos", packed.parent, "--delete")
    assert packed.is_file()


def test_an_entry_is_never_overwritten_by_its_library(cache: Path) -> None:
    victim = next(iter(FeatureCache(cache))).path
    before = victim.read_bytes()
    with pytest.raises(UsageError, match="name a file outside"):
        run("cache", "pack", victim, "--cache", cache)
    assert victim.read_bytes() == before


def test_altered_times_are_found_too(packed: Path) -> None:
    with h5py.File(packed, "r+") as file:
        file["timestamps_ms"][1] += 0.5
    assert run("cache", "verify", "--cache", packed).exit_code == 1


def test_a_packed_library_keeps_its_suffix(packed: Path) -> None:
    with pytest.raises(ClipcacheError, match=r"ends in \.h5"):
        FeatureCache(packed.rename(packed.with_suffix(".hdf5")))
