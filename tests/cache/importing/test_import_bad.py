"""Files that are damaged, hostile or foreign: each is named in a sentence, and none is in the way of the others."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from clipcache.cache import FeatureCache
from export_caches import DIM, run_import
from test_import_run import B32, FEATURES, npy, tar_of, triple


class Malice:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("unpickled",)


def save(name: str, values: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        np.save(folder / name, values, allow_pickle=True)

    return make


def of_triple(**changes: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        triple(folder, **changes)

    return make


def raw(name: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return make


def h5(fill: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with h5py.File(folder / "x.h5", "w") as file:
            fill(file)

    return make


def external(file: h5py.File) -> None:
    file.create_dataset("x", (2, DIM), "f2", external=[("/etc/hostname", 0, 16)])


def huge(file: h5py.File) -> None:
    file.create_dataset("x", (10**9, DIM), "f2", chunks=(1000, DIM), compression="gzip")


def linked_tar(folder: Path) -> None:
    with tarfile.open(folder / "x.tar", "w") as shard:
        member = tarfile.TarInfo("../../x.npy")
        member.type = tarfile.SYMTYPE
        member.linkname = "/etc/passwd"
        shard.addfile(member)
        content = npy(FEATURES[:, :3])
        member = tarfile.TarInfo("y.npy")
        member.size = len(content)
        shard.addfile(member, io.BytesIO(content))


NAN = np.where(np.arange(20).reshape(5, DIM) == 3, np.nan, 1.0)
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "wrong width": (of_triple(features=np.ones((5, 3), np.float16)), "where features (N, 4) of ViT-B/32 belong"),
    "one dimension": (of_triple(features=np.ones(5)), "shape (5,)"),
    "no rows": (of_triple(features=np.ones((0, DIM))), "shape (0, 4)"),
    "integers": (of_triple(features=np.ones((5, DIM), int)), "type int64"),
    "not finite": (of_triple(features=NAN), "features that are not finite"),
    "beyond float32": (of_triple(features=np.full((5, DIM), 1e300)), "features that are not finite"),
    "times go back": (of_triple(times=np.array([0, 2, 1, 3, 4.0])), "timestamps decrease"),
    "times not finite": (of_triple(times=np.array([0, 1, 2, 3, np.nan])), "a timestamp is not finite"),
    "too few times": (of_triple(times=np.arange(3.0)), "where (5,) numbers belong"),
    "cut short": (raw("x_clip.npy", npy(FEATURES)[:-3]), "damaged or not a NumPy file"),
    "empty": (raw("x_clip.npy", b""), "damaged or not a NumPy file"),
    "a pickle": (raw("x_clip.npy", pickle.dumps(Malice())), "damaged or not a NumPy file"),
    "objects": (save("x_clip.npy", np.array([Malice()], object)), "damaged or not a NumPy file"),
    "not a zip": (raw("x.npz", b"PK\3\4 nothing"), "damaged or not a NumPy file"),
    "npz without features": (lambda folder: np.savez(folder / "x.npz", other=FEATURES), "no array named features"),
    "not HDF5": (raw("x.h5", b"nothing"), "damaged or not an HDF5 file"),
    "a packed library": (h5(lambda file: file.attrs.create("packed_version", 1)), "name it with --cache"),
    "a group": (h5(lambda file: file.create_group("x")), "not a dataset of its own"),
    "a soft link": (h5(lambda file: file.__setitem__("x", h5py.SoftLink("/y"))), "not a dataset of its own"),
    "an external link": (
        h5(lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/hostname", "/"))),
        "not a dataset of its own",
    ),
    "external storage": (h5(external), "in other files, which are not read"),
    "an entry": (h5(lambda file: file.attrs.create("schema_version", 1)), "an entry of clipcache already"),
    "far more than it holds": (h5(huge), "far more than it holds"),
    "not a tar": (raw("x.tar", b"nothing" * 100), "damaged or not a shard"),
    "links in a tar": (linked_tar, "where features (N, 4) of ViT-B/32 belong"),
    "bad metadata": (
        lambda folder: tar_of(folder / "x.tar", {"x.npy": npy(FEATURES), "x.json": b"{"}) and None,
        "damaged or not a shard",
    ),
    "metadata without end": (
        lambda folder: tar_of(folder / "x.tar", {"x.npy": npy(FEATURES), "x.json": b"[" * 200_000}) and None,
        "damaged or not a shard",
    ),
    "metadata of words": (
        lambda folder: (
            tar_of(folder / "x.tar", {"x.npy": npy(FEATURES), "x.json": b'{"timestamps_ms": "soon"}'}) and None
        ),
        "numbers belong",
    ),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_a_bad_file_is_named_and_the_others_are_imported(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, sentence = BAD[what]
    folder = tmp_path / "in"
    (folder / "bad").mkdir(parents=True)
    make(folder / "bad")
    triple(folder / "good")
    monkeypatch.chdir(tmp_path)
    result = run_import(tmp_path / "cache", folder, *B32, "--fps", 25)
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.exit_code == 1
    assert "1 videos imported, 1 without their video (5 frames), 0 already there, 1 failed" in result.stdout
    assert [entry.video_name for entry in FeatureCache(tmp_path / "cache")] == ["clip"]
    assert not (tmp_path / "unpickled").exists()
