"""Schema 2: texts that any HDF5 library reads, a checksum over all attributes, and entries of schema 1 beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cache_entries import (
    FRAMES,
    change_attributes,
    make_attributes,
    make_features,
    put_entry,
    put_v1_entry,
    sha256_of,
)
from checkout import CHECKOUT
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import CacheError, EntryError
from clipcache.cache.format.checks import check_identity
from clipcache.cache.format.guard import H5PY_ERRORS
from clipcache.cache.format.header import OtherLayoutError, StoredAttributes
from clipcache.cache.format.packed import is_packed
from clipcache.cache.format.read import can_validate, read_attributes_of
from clipcache.cache.format.schema import (
    ADDED_IN_VERSION_2,
    ATTRIBUTE_TYPES,
    CHECKSUM,
    MAX_TEXT_BYTES,
    SCHEMA_VERSION,
    storable_path,
    storable_text,
)
from clipcache.cache.merge import merge
from clipcache.cache.pack import pack
from clipcache.cache.verify import problem_of, verify

LONG_NAME = "ü" * 120 + ".mp4"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return put_entry(tmp_path / "cache", video_name="żółw 1.mp4", source_path="/videos/żółw 1.mp4", logit_bias=-10.5)


def fail(path: Path, error: EntryError) -> None:
    raise error


def recomputed(path: Path) -> str:
    """The checksum by the words of docs/cache.md, without clipcache."""
    with h5py.File(path) as file:
        values = {name: value for name, value in file.attrs.items() if name != "attributes_sha256"}
    text = b""
    for name in sorted(values):
        value = values[name]
        if isinstance(value, np.bool_):
            spelled = "true" if value else "false"
        elif isinstance(value, np.floating):
            spelled = f"{struct.unpack('>Q', struct.pack('>d', value))[0]:016x}"
        else:
            spelled = f"{value}"
        text += name.encode() + b"\0" + spelled.encode() + b"\0"
    return hashlib.sha256(text).hexdigest()


def test_plain_h5py_reads_text_as_str(path: Path) -> None:
    with h5py.File(path) as file:
        texts = {name: file.attrs[name] for name, kind in ATTRIBUTE_TYPES.items() if kind is str}
        assert {type(text) for text in [*texts.values(), file.attrs[CHECKSUM]]} == {str}
    assert texts["video_name"] == "żółw 1.mp4"
    assert texts["timeline"] == ""


def test_the_checksum_can_be_recomputed_by_anybody(path: Path) -> None:
    with h5py.File(path) as file:
        assert file.attrs[CHECKSUM] == recomputed(path)


@pytest.mark.skipif(not (CHECKOUT / "docs").is_dir(), reason="the docs lie in the checkout")
def test_the_checksum_of_the_documentation_is_right(path: Path) -> None:
    page = (CHECKOUT / "docs" / "cache.md").read_text(encoding="utf-8")
    reads, checks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = re.sub(r'File\(".*?"\)', f"File({str(path)!r})", reads) + checks
    subprocess.run([sys.executable, "-c", f"{code}\nassert len(found) == 64"], check=True)


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, str):
        return ("x" if value[:1] != "x" else "y") + value[1:]
    return np.bool_(not value) if isinstance(value, np.bool_) else value + 1


@pytest.mark.parametrize("name", [*ATTRIBUTE_TYPES, CHECKSUM])
def test_a_change_of_any_attribute_is_found(path: Path, name: str) -> None:
    assert problem_of(path) is None
    with h5py.File(path, "r+") as file:
        file.attrs[name] = changed(file.attrs[name])
    assert problem_of(path) is not None
    for read in (read_attributes_of, lambda path: Entry(path).attributes):
        with pytest.raises(EntryError):
            read(path)


def test_a_version_put_back_to_1_is_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 1
    assert "do not fit their checksum" in str(problem_of(path))


def test_further_attributes_are_ignored(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "mine" * 5000
        file.attrs["list"] = np.arange(7)
        file.attrs["texts"] = ["one", "two"]
        file.attrs["pair"] = np.zeros((), [("a", "i4"), ("b", "f8")])
    assert problem_of(path) is None
    assert Entry(path).video_name == "żółw 1.mp4"


def test_attributes_of_many_files_in_any_layout_are_read(tmp_path: Path) -> None:
    """HDF5 itself is the truth: old and new headers, headers in several blocks, rewritten attributes."""
    kinds = {np.bool_: bool, np.int64: int, np.float64: float, str: str}
    for number, libver in enumerate([None, "v110", "latest"]):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", libver=libver) as file:
            file["data"] = np.zeros(3)
            for one in range(60 if libver is None else 5):
                file.attrs[f"é{one}"] = "ü" * one * 30 if one % 2 else one / 3
        with h5py.File(path, "r+") as file:
            file.attrs["é1"] = "later" * 100
            file.attrs["integer"], file.attrs["bool"], file.attrs["empty"] = -3, True, ""
        with h5py.File(path) as file:
            stored = StoredAttributes(file)
            assert all(stored.get(name, kinds[type(value)]) == value for name, value in file.attrs.items())
            assert stored.get("é1", float) is stored.get("integer", float) is stored.get("bool", int) is None


def test_version_1_is_read(tmp_path: Path) -> None:
    path = put_v1_entry(tmp_path, video_name=LONG_NAME, sampling="fps=5", frames_expected=500)
    with h5py.File(path) as file:
        assert isinstance(file.attrs["codec"], bytes), "as version 1 stored it"
        assert not {CHECKSUM, *ADDED_IN_VERSION_2} & set(file.attrs)
    entry = Entry(path)
    unknown = {name: getattr(entry, name) for name in ADDED_IN_VERSION_2}
    assert unknown == {
        "timeline": "",
        "frames_corrupt": -1,
        "source_path": "",
        "logit_bias": 0.0,
        "pooling": "",
        "normalization": "",
    }
    assert entry.attributes == make_attributes(
        schema_version=1, video_name=LONG_NAME, sampling="fps=5", frames_expected=500
    )
    np.testing.assert_array_equal(entry.features, make_features())
    assert problem_of(path) is None


@pytest.mark.parametrize("through_pack", [False, True])
def test_version_1_merged_is_version_2(tmp_path: Path, through_pack: bool) -> None:
    old = Entry(put_v1_entry(tmp_path / "old"))
    source = FeatureCache(tmp_path / "old")
    if through_pack:
        pack(source, tmp_path / "library.h5", fail)
        source = FeatureCache(tmp_path / "library.h5")
        assert next(iter(source)).attributes == old.attributes
    merge([source], tmp_path / "new", fail)
    (entry,) = FeatureCache(tmp_path / "new")
    assert entry.attributes == dataclasses.replace(old.attributes, schema_version=SCHEMA_VERSION)
    np.testing.assert_array_equal(entry.features, old.features)
    assert problem_of(entry.path) is None
    with h5py.File(entry.path) as file:
        assert isinstance(file.attrs["codec"], str)


def spoil_length(data: bytearray, heap: int) -> None:
    """A text says that it has 3 GB."""
    at = data.index(struct.pack("<QI", heap, 1)) - 4
    data[at : at + 4] = struct.pack("<I", 3_000_000_000)


def spoil_heap(data: bytearray, heap: int) -> None:
    """The heap of texts says that it fills the file, which is sparse and has 2 GB."""
    size = 2_000_000_000
    data[heap + 8 : heap + 16] = struct.pack("<Q", size - heap)
    end = data.index(struct.pack("<Q", len(data)), 0, 100)
    data[end : end + 8] = struct.pack("<Q", size)


def spoil_object(data: bytearray, heap: int) -> None:
    """The first text is longer in the heap than where it is used."""
    at = data.index(struct.pack("<QI", heap, 1)) - 4
    data[at] -= 1


READ = """
import resource, sys
from pathlib import Path
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import EntryError
from clipcache.cache.verify import problem_of
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    FeatureCache(Path(sys.argv[1])) if "library" in sys.argv[1] else print(problem_of(sys.argv[1]))
except EntryError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("is_library", [False, True])
@pytest.mark.parametrize("spoil", [spoil_length, spoil_heap, spoil_object])
def test_a_text_that_lies_about_its_size_takes_neither_memory_nor_time(
    path: Path, tmp_path: Path, spoil: Any, is_library: bool
) -> None:
    if is_library:
        path = tmp_path / "library.h5"
        pack(FeatureCache(tmp_path / "cache"), path, fail)
        with h5py.File(path, "r+") as file:
            del file.attrs["packed_version"]
            file.attrs["packed_version"] = "1"  # the first attribute that is read
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    spoil(data, heap)
    path.write_bytes(data)
    if spoil is spoil_heap:
        os.truncate(path, 2_000_000_000)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    sentence, kilobytes = done.stdout.splitlines()
    assert sentence.startswith(f"'{path}' ")
    assert int(kilobytes) < 100_000


@pytest.mark.once
@pytest.mark.parametrize("libver", ["earliest", "v110"])
def test_a_flipped_byte_of_a_header_is_an_error_at_most(tmp_path: Path, libver: str, monkeypatch: Any) -> None:
    """What comes is what becomes an `EntryError` where the file is named; and all come soon."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver=libver) as file:
        for number in range(7):
            file.attrs[f"text{number}"] = "text" * number
        file.attrs["integer"] = 3
    clean = path.read_bytes()
    outcomes = set()
    with h5py.File(path) as file:
        for position in range(len(clean)):
            for flip in (1, 0x80, 0xFF):
                flipped = clean[:position] + bytes([clean[position] ^ flip]) + clean[position + 1 :]
                monkeypatch.setattr(os, "pread", lambda _, size, at, data=flipped: data[at : at + size])
                try:
                    stored = StoredAttributes(file)
                    values = [stored.get(*one) for one in (("text6", str), ("integer", int)) if one[0] in stored]
                    outcomes |= {type(value) for value in values}
                except H5PY_ERRORS as error:
                    outcomes.add(type(error))
    assert (
        {str, int, ValueError} <= outcomes <= {str, int, type(None), *H5PY_ERRORS, UnicodeDecodeError, OtherLayoutError}
    )


WRONG = [
    ({"model": "ViT-L/14"}, "folder of another model"),
    ({"weights_sha256": "ab" * 32}, "folder of another model"),
    ({"weights_sha256": "../../x"}, "the weights_sha256 '../../x', which cannot be"),
    ({"video_sha256": sha256_of("another")}, "name of another video"),
    ({"sampling": "fps=2"}, "named all but holds fps=2"),
    ({"sampling": "junk"}, "the sampling 'junk', which cannot be"),
    ({"embed_dim": 9}, "features of shape"),
]


@pytest.mark.parametrize(("attributes", "sentence"), WRONG)
def test_attributes_that_contradict_the_place_or_the_data_are_not_trusted(
    path: Path, attributes: dict[str, object], sentence: str
) -> None:
    change_attributes(path, **attributes)
    for read in (read_attributes_of, lambda path: Entry(path).attributes):
        with pytest.raises(EntryError, match=sentence):
            read(path)


@pytest.mark.parametrize(("attributes", "sentence"), WRONG[:-1])
def test_a_packed_entry_is_no_more_trusted_than_a_file(
    path: Path, tmp_path: Path, attributes: dict[str, object], sentence: str
) -> None:
    put_entry(tmp_path / "cache", video_sha256=sha256_of("good"))
    pack(FeatureCache(tmp_path / "cache"), tmp_path / "library.h5", fail)
    with h5py.File(tmp_path / "library.h5", "r+") as file:
        row = [name.endswith(path.name.encode()) for name in file["entries/names"]].index(True)
        for name, value in attributes.items():
            column = file["entries/attributes"][name]
            values = column[:].astype("S80")
            values[row] = str(value).encode()
            del file["entries/attributes"][name]
            file["entries/attributes"][name] = values
    bad: list[str] = []
    good = list(FeatureCache(tmp_path / "library.h5").iter_entries(lambda _, error: bad.append(str(error))))
    assert (len(good), len(bad)) == (1, 1)
    assert sentence in bad[0]


def test_an_entry_outside_a_cache_may_have_any_name(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("mine.h5", path.name, "other-0123456789abcdef.fps2.h5"):
        bare = tmp_path / name
        bare.write_bytes(path.read_bytes())
        assert Entry(bare).attributes == Entry(path).attributes == read_attributes_of(bare)
    monkeypatch.chdir(path.parent)
    check_identity(Path(path.name), Entry(path).attributes)


def test_hostile_files_can_be_told_from_newer_ones(path: Path) -> None:
    assert can_validate(path)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION + 1
    assert not can_validate(path)
    assert not is_packed(path)


def test_where_a_video_was_is_an_absolute_path(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert storable_path("a/../b.mp4") == str(tmp_path / "b.mp4")
    assert storable_path(tmp_path / "b.mp4") == str(tmp_path / "b.mp4")
    assert storable_path(os.fsdecode(b"/caf\xe9.mp4")) == r"/caf\xe9.mp4"


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://example.org/v/a.mp4", "https://example.org/v/a.mp4"),
        ("https://me:secret@example.org:8080/a.mp4?token=secret#t=5", "https://example.org:8080/a.mp4"),
        ("http://a@b@example.org?secret", "http://example.org"),
        ("s3://bucket/key.mp4", "s3://bucket/key.mp4"),
    ],
)
def test_a_url_is_stored_without_secrets(url: str, stored: str) -> None:
    assert storable_path(url) == stored


@pytest.mark.parametrize("extra", range(4))
def test_a_long_path_loses_its_beginning(tmp_path: Path, extra: int) -> None:
    long = "/" + "x" * extra + "ü/" * 3000 + "name.mp4"
    stored = storable_path(long)
    assert MAX_TEXT_BYTES - 2 <= len(stored.encode()) <= MAX_TEXT_BYTES
    assert stored.startswith("…")
    assert long.endswith(stored[1:])
    assert Entry(put_entry(tmp_path, source_path=stored)).source_path == stored


def test_a_zero_byte_is_shown(tmp_path: Path) -> None:
    assert storable_text("a\0b") == r"a\x00b"
    assert Entry(put_entry(tmp_path, codec="a\0b")).codec == r"a\x00b"


MERGE = """
import resource, sys
from clipcache.cache import FeatureCache
from clipcache.cache.merge import merge
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(merge([FeatureCache(sys.argv[1])], sys.argv[2], lambda path, error: sys.exit(str(error))).written)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.once
@pytest.mark.parametrize("source", ["v1", "v2", "library"])
def test_merging_holds_no_whole_entry(tmp_path: Path, source: str) -> None:
    put = put_v1_entry if source == "v1" else put_entry
    path = put(tmp_path / "a", 10, embed_dim=64, frames_expected=1 << 20, frames_decoded=1 << 20)
    with h5py.File(path, "r+") as file:
        for name in ("features", "timestamps_ms", "frame_index"):
            del file[name]
        features = file.create_dataset("features", (1 << 20, 64), "f2", chunks=(1024, 64), fletcher32=True)
        for start in range(0, 1 << 20, 1 << 16):
            features[start : start + (1 << 16)] = np.full((1 << 16, 64), 1 + start / (1 << 20), "f2")
        file["timestamps_ms"], file["frame_index"] = np.arange(1 << 20) * 1.0, np.arange(1 << 20)
    if source == "library":
        pack(FeatureCache(tmp_path / "a"), tmp_path / "library.h5", fail)
    given = tmp_path / ("library.h5" if source == "library" else "a")
    done = subprocess.run(
        [sys.executable, "-c", MERGE, str(given), str(tmp_path / "b")], capture_output=True, text=True, check=True
    )
    written, kilobytes = map(int, done.stdout.split())
    assert written == 1
    assert kilobytes < 80_000, "features take 131,000 KB; times and positions, which are held, 17,000 KB"
    (entry,) = FeatureCache(tmp_path / "b")
    for a, b in zip(entry.iter_features(), Entry(path).iter_features(), strict=True):
        np.testing.assert_array_equal(a, b)


FULL = """
import resource, signal, sys
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import CacheError
from clipcache.cache.merge import merge
from clipcache.cache.pack import pack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
fail = lambda path, error: sys.exit(str(error))
try:
    if sys.argv[2].endswith(".h5"):
        pack(FeatureCache(sys.argv[1]), sys.argv[2], fail)
    else:
        merge([FeatureCache(sys.argv[1])], sys.argv[2], fail)
except CacheError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100, 3000, 20_000, 80_000])
@pytest.mark.parametrize("target", ["merged", "library.h5"])
def test_a_full_disk_is_one_sentence_and_no_crash(tmp_path: Path, target: str, limit: int) -> None:
    put_entry(tmp_path / "a", 5000)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "a"), str(tmp_path / target), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Cannot write")
    assert done.stdout.count("\n") == 1
    assert "File too large" in done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "a" not in path.parents]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_one_bad_entry_does_not_end_a_merge(tmp_path: Path, is_damaged: bool) -> None:
    victim = put_entry(tmp_path / "a", seed=1)
    good = put_entry(tmp_path / "a", video_sha256=sha256_of("good"))
    with h5py.File(victim, "r+") as file:
        if not is_damaged:
            file["features"][7, 3] = np.nan
        offset = file["features"].id.get_chunk_info(0).byte_offset
    if is_damaged:
        data = bytearray(victim.read_bytes())
        data[offset + 5] ^= 0xFF
        victim.write_bytes(data)
    bad: list[Path] = []
    merged = merge([FeatureCache(tmp_path / "a")], tmp_path / "b", lambda path, _: bad.append(path))
    assert (bad, merged.written) == ([victim], 1)
    assert [path.name for path in (tmp_path / "b").rglob("*") if path.is_file()] == [good.name]


def spoil_file(path: Path) -> None:
    if path.is_file():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


def test_a_disk_that_lies_is_no_fault_of_the_entry(tmp_path: Path, monkeypatch: Any) -> None:
    put_entry(tmp_path / "a", 5000)
    monkeypatch.setattr("clipcache.cache.common.atomic._sync", spoil_file)
    with pytest.raises(CacheError, match="check the disk"):
        merge([FeatureCache(tmp_path / "a")], tmp_path / "b", fail)


@pytest.mark.parametrize("order", [("imported", "extracted"), ("extracted", "imported")])
def test_what_was_extracted_goes_before_what_was_imported(tmp_path: Path, order: tuple[str, str]) -> None:
    put_entry(tmp_path / "imported", seed=1, decoder="imported: npz")
    own = Entry(put_entry(tmp_path / "extracted", seed=2))
    merge([FeatureCache(tmp_path / name) for name in order], tmp_path / "both", fail)
    (entry,) = FeatureCache(tmp_path / "both")
    assert entry.attributes == own.attributes
    np.testing.assert_array_equal(entry.features, own.features)


def test_a_fuller_import_goes_before_an_extraction(tmp_path: Path) -> None:
    put_entry(tmp_path / "a", FRAMES - 1, complete=False, frames_expected=FRAMES)
    put_entry(tmp_path / "b", decoder="imported: npz")
    merge([FeatureCache(tmp_path / "a"), FeatureCache(tmp_path / "b")], tmp_path / "c", fail)
    (entry,) = FeatureCache(tmp_path / "c")
    assert len(entry) == FRAMES


def test_a_library_with_a_changed_attribute_is_found(path: Path, tmp_path: Path) -> None:
    pack(FeatureCache(tmp_path / "cache"), tmp_path / "library.h5", fail)
    with h5py.File(tmp_path / "library.h5", "r+") as file:
        file["entries/attributes/rotation"][0] = 213
    assert any(finding.problem for finding in verify(FeatureCache(tmp_path / "library.h5")))
