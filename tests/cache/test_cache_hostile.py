"""Files that are not what they seem: each is one clear error, and none makes clipcache read another file."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_entries import DIM, FRAMES, put_entry
from clipcache.cache.common.errors import EntryError
from clipcache.cache.entry import Entry
from clipcache.cache.verify import problem_of

SECRET = np.arange(FRAMES, dtype=np.float64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return put_entry(tmp_path / "cache")


def edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def replace(name: str, **how: object) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return edit(change)


def set_attribute(name: str, value: object, **how: object) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]
        file.attrs.create(name, value, **how)

    return edit(change)


def external_storage(path: Path) -> None:
    secret = path.with_suffix(".secret")
    secret.write_bytes(SECRET.tobytes())
    replace("timestamps_ms", shape=(FRAMES,), dtype="f8", external=[(str(secret), 0, SECRET.nbytes)])(path)


def virtual_dataset(path: Path) -> None:
    secret = path.with_suffix(".secret")
    with h5py.File(secret, "w") as file:
        file["x"] = SECRET
    layout = h5py.VirtualLayout(shape=(FRAMES,), dtype="f8")
    layout[:] = h5py.VirtualSource(secret, "x", shape=(FRAMES,))
    with h5py.File(path, "r+") as file:
        del file["timestamps_ms"]
        file.create_virtual_dataset("timestamps_ms", layout)


def external_link(path: Path) -> None:
    secret = path.with_suffix(".secret")
    with h5py.File(secret, "w") as file:
        file["x"] = SECRET
    with h5py.File(path, "r+") as file:
        del file["timestamps_ms"]
        file["timestamps_ms"] = h5py.ExternalLink(str(secret), "x")


def soft_link(file: h5py.File) -> None:
    file.move("timestamps_ms", "elsewhere")
    file["timestamps_ms"] = h5py.SoftLink("/elsewhere")


def external_group(path: Path) -> None:
    secret = path.with_suffix(".secret")
    with h5py.File(secret, "w") as file:
        file["blur"] = SECRET.astype("f4")
    with h5py.File(path, "r+") as file:
        file["quality"] = h5py.ExternalLink(str(secret), "/")


def text_file(path: Path) -> None:
    path.write_text("I am an entry, honestly.")


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((FRAMES, DIM))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def without_attribute(file: h5py.File) -> None:
    del file.attrs["model"]


def without_dataset(file: h5py.File) -> None:
    del file["frame_index"]


def group_as_dataset(file: h5py.File) -> None:
    del file["features"]
    file.create_group("features")


def many_objects(file: h5py.File) -> None:
    for number in range(100):
        file.create_group(f"g{number}")


def quality_of_other_length(file: h5py.File) -> None:
    file["quality/blur"] = np.zeros(3, np.float32)


def quality_as_dataset(file: h5py.File) -> None:
    file["quality"] = np.zeros(3, np.float32)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HUGE = (1 << 40, DIM)
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "external storage": (external_storage, "in other files"),
    "virtual dataset": (virtual_dataset, "in other files"),
    "external link": (external_link, "link to another place"),
    "soft link": (edit(soft_link), "link to another place"),
    "external quality": (external_group, "link to another place"),
    "huge shape, chunked": (replace("features", shape=HUGE, dtype="f2", chunks=(1024, DIM)), "more than it holds"),
    "huge shape, contiguous": (replace("features", shape=HUGE, dtype="f2"), "more than it holds"),
    "huge chunk": (
        replace("features", shape=(FRAMES, DIM), maxshape=(None, DIM), dtype="f2", chunks=(1 << 26, DIM)),
        "more than it holds",
    ),
    "data never written": (replace("timestamps_ms", shape=(FRAMES,), dtype="f8"), "more than it holds"),
    "compression": (replace("features", data=np.zeros((FRAMES, DIM), "f2"), compression="gzip"), "filters"),
    "no frames": (replace("features", shape=(0, DIM), dtype="f2"), "holds no features"),
    "one dimension": (replace("features", data=np.zeros(FRAMES, "f2")), "shape"),
    "other embed_dim": (replace("features", data=np.zeros((FRAMES, 3), "f2")), "shape"),
    "double features": (replace("features", data=np.zeros((FRAMES, DIM))), "float64"),
    "big-endian times": (replace("timestamps_ms", data=SECRET.astype(">f8")), "type >f8"),
    "objects as features": (replace("features", shape=(FRAMES, DIM), dtype=h5py.string_dtype()), "type|more"),
    "scalar": (replace("frame_index", data=np.int64(3)), "frame_index"),
    "null dataspace": (replace("frame_index", data=h5py.Empty("i8")), "frame_index"),
    "fewer times": (replace("timestamps_ms", data=SECRET[:3]), "shape"),
    "times of NaN": (replace("timestamps_ms", data=SECRET * np.nan), "not finite"),
    "times that overflow": (replace("timestamps_ms", data=SECRET * 1e300), "not finite"),
    "frames out of order": (replace("frame_index", data=np.arange(FRAMES)[::-1]), "frame_index"),
    "newer schema": (set_attribute("schema_version", 3), "upgrade clipcache"),
    "schema as text": (set_attribute("schema_version", "1"), "schema_version"),
    "huge text": (set_attribute("video_name", b"x" * 60_000, dtype="S60000"), "video_name"),
    "long text": (set_attribute("video_name", "x" * 4097, dtype=h5py.string_dtype()), "video_name"),
    "other text": (set_attribute("video_name", "x", dtype=h5py.string_dtype()), "do not fit their checksum"),
    "no checksum": (edit(lambda file: file.attrs.pop("attributes_sha256")), "lacks the attribute attributes_sha256"),
    "text that is not UTF-8": (set_attribute("video_name", b"\xff", dtype="S1"), "damaged"),
    "array attribute": (set_attribute("fps", np.zeros(1000)), "fps"),
    "compound attribute": (set_attribute("fps", np.zeros((), [("a", "f8"), ("b", "f8")])), "fps"),
    "missing attribute": (edit(without_attribute), "lacks the attribute model"),
    "missing dataset": (edit(without_dataset), "lacks the dataset frame_index"),
    "group as dataset": (edit(group_as_dataset), "lacks the dataset features"),
    "many objects": (edit(many_objects), "objects"),
    "quality of another length": (edit(quality_of_other_length), "blur"),
    "quality that is no group": (edit(quality_as_dataset), "not a group"),
    "empty": (lambda path: path.write_bytes(b"") and None, "is empty"),
    "text": (text_file, "not an HDF5 file"),
    "foreign HDF5": (foreign, "not a clipcache entry"),
    "truncated": (truncated, "truncated or damaged"),
    "missing": (Path.unlink, "cannot be read"),
    "folder": (folder, "not a file"),
    "pipe": (pipe, "not a file"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_is_one_clear_error(path: Path, name: str) -> None:
    spoil, sentence = CASES[name]
    spoil(path)
    with pytest.raises(EntryError, match=sentence) as caught:
        _ = Entry(path).attributes
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    with pytest.raises(EntryError):
        _ = Entry(path).features
    assert problem_of(path) == str(caught.value)


@pytest.mark.fault
def test_a_flipped_byte_is_noticed_wherever_it_lies(path: Path, tmp_path: Path) -> None:
    """Data have checksums; in the file's structure a flip may be harmless, but must never crash or go unnamed."""
    original = path.read_bytes()
    clean, attributes = Entry(path).features, Entry(path).attributes
    copy = tmp_path / path.relative_to(tmp_path / "cache").parent / path.name
    copy.parent.mkdir(parents=True)
    shutil.copyfile(path, copy)
    for position in np.random.default_rng(0).integers(0, len(original), 300).tolist():
        flipped = bytearray(original)
        flipped[position] ^= 0xFF
        copy.write_bytes(flipped)
        with contextlib.suppress(EntryError):
            assert np.array_equal(Entry(copy).features, clean)
            assert Entry(copy).attributes == attributes
    data_start = original.find(clean.tobytes())
    assert data_start > 0
    copy.write_bytes(original[: data_start + 5] + b"\xaa\x55" + original[data_start + 7 :])
    with pytest.raises(EntryError, match="damaged"):
        _ = Entry(copy).features


def test_unknown_plain_datasets_are_left_alone(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["notes"] = np.zeros(3)
    assert len(Entry(path)) == FRAMES
