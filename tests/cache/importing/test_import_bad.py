"""Files that are damaged, hostile or foreign: each is named in a sentence, and none is in the way of the others."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
from cache_entries import make_attributes
from clipcache.cache import FeatureCache
from clipcache.cache.format.schema import ATTRIBUTE_TYPES
from export_caches import DIM, run_import
from pyarrow.parquet import write_table
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


def described(**known: object) -> Callable[[Path], None]:
    """An array with JSON beside it."""

    def make(folder: Path) -> None:
        np.save(folder / "x.npy", FEATURES)
        (folder / "x.json").write_text(json.dumps(known))

    return make


def said(**changes: object) -> Callable[[Path], None]:
    """The same that says what an export says, with changes."""
    known = dataclasses.asdict(make_attributes(model="ViT-B/32", embed_dim=DIM, frames_decoded=5))
    return described(**known | {"rows_per_second": 25.0, "recipe": {}} | changes)


def tar_with(content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        tar_of(folder / "x.tar", {"x.npy": content})

    return make


def npz(**arrays: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        np.savez(folder / "x.npz", features=FEATURES, **arrays)

    return make


def tensors(**more: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        torch.save({"features": torch.from_numpy(FEATURES), **more}, folder / "x.pt")

    return make


def parquet(name: str, vectors: list[object], **more: list[object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        table = pa.table({"video": ["x"] * len(vectors), "features": pa.array(vectors, pa.list_(pa.float32())), **more})
        write_table(table, folder / name)

    return make


def nested_parquet(folder: Path) -> None:
    kind = pa.list_(pa.list_(pa.float32()))
    times = pa.array([[0.0, 40.0]], pa.list_(pa.float64()))
    table = pa.table({"video": ["x"], "features": pa.array([RAGGED], kind), "timestamps_ms": times})
    write_table(table, folder / "x.parquet")


def part(content: bytes) -> Callable[[Path], None]:
    """An array of clip-retrieval, and its table."""

    def make(folder: Path) -> None:
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir()
        (folder / "img_emb" / "img_emb_0.npy").write_bytes(content)
        write_table(pa.table({"video": ["x"] * 5}), folder / "metadata" / "metadata_0.parquet")

    return make


def zipped() -> bytes:
    file = io.BytesIO()
    np.savez(file, features=FEATURES)
    return file.getvalue()


def variable(file: h5py.File) -> None:
    file.create_dataset("x", (5,), h5py.vlen_dtype(np.float32))[:] = [np.ones(DIM, np.float32)] * 5


def shared_text(file: h5py.File) -> None:
    """One text of a megabyte that all rows share: the rows' pointers are copies of the first one's."""
    group = file.create_group("x")
    group["features"] = FEATURES
    names = group.create_dataset("frame_names", (5,), h5py.string_dtype(), chunks=(1,))
    names[0] = "x" * 1_000_000
    mask, pointer = names.id.read_direct_chunk((0,))
    for row in range(1, 5):
        names.id.write_direct_chunk((row,), pointer, mask)


RAGGED: list[object] = [[1.0] * 3, [1.0] * 5]
BROKEN = npy(FEATURES).replace(b"{'descr'", b"{('desc(")
UNCLOSED = npy(FEATURES).replace(b"}", b" ")
HUGE = 10**400
NO_TEXT = "a\ud800b"
NO_SENSE = "what is said of 'x' makes no sense"
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
    "values of variable length": (h5(variable), "values of variable length"),
    "a text that rows share": (h5(shared_text), "or more than its size"),
    "ragged times": (described(timestamps_ms=[[1], [1, 2]]), NO_SENSE),
    "ragged positions": (described(frame_index=[[1], [1, 2]]), NO_SENSE),
    "a ragged rate": (described(fps=[[1], [1, 2]]), NO_SENSE),
    "names that are a number": (described(frame_names=5), NO_SENSE),
    "names that are a text": (described(frame_names="abcde"), NO_SENSE),
    "names without dimensions": (npz(frame_names=np.array("a")), "the names of frames are not a list"),
    "names of two dimensions": (npz(frame_names=np.array([["a"]] * 5)), "the names of frames are not a list"),
    "tensors with a name": (tensors(frame_names=torch.ones(5)), "the names of frames are not a list"),
    "tensors with a number": (tensors(frame_names=5), "the names of frames are not a list"),
    "a number of 400 digits": (said(logit_scale=HUGE), "says of 'x' what no export says"),
    "a rate of 400 digits": (said(rows_per_second=HUGE), "says of 'x' what no export says"),
    "an interval of 400 digits": (said(recipe={"interval_s": HUGE}), "which no sampling says exactly"),
    "sampling of 400 digits": (said(recipe={"fps": HUGE}), "says of 'x' what no export says"),
    "a time of 400 digits": (described(timestamps_ms=[HUGE] * 5), "numbers belong"),
    "a tar with a header that does not end": (tar_with(UNCLOSED), "damaged or not a shard"),
    "a tar with a header that is no Python": (tar_with(BROKEN), "damaged or not a shard"),
    "a header that does not end": (raw("x_clip.npy", UNCLOSED), "damaged or not a NumPy file"),
    "an .npz of clip-retrieval": (part(zipped()), "img_emb_0.npy' is damaged or not a NumPy file"),
    "a header of clip-retrieval": (part(UNCLOSED), "img_emb_0.npy' is damaged or not a NumPy file"),
    "another header of clip-retrieval": (part(BROKEN), "img_emb_0.npy' is damaged or not a NumPy file"),
    "lists of two lengths": (parquet("x.parquet", RAGGED), "not lists of one length"),
    "a list that is missing": (parquet("x.parquet", [[1.0] * DIM, None]), "not lists of one length"),
    "lists of two lengths in a list": (nested_parquet, "not lists of one length"),
}
OF_THE_ROWS = ("embed_dim", "frames_decoded")  # counted, not believed
INTEGERS = [name for name, kind in ATTRIBUTE_TYPES.items() if kind is int]
TEXTS = [name for name, kind in ATTRIBUTE_TYPES.items() if kind is str]
BAD |= {f"{name} of 400 digits": (said(**{name: HUGE}), "x.npy'") for name in INTEGERS if name not in OF_THE_ROWS}


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


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_utf8_cannot_hold_costs_its_own_file_at_most(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    (folder / "bad").mkdir(parents=True)
    said(**{name: NO_TEXT})(folder / "bad")
    triple(folder / "good")
    result = run_import(tmp_path / "cache", folder, "--fps", 25, *B32)
    assert "clip" in {entry.video_name for entry in FeatureCache(tmp_path / "cache")}
    assert result.exit_code == 0 or "x.npy'" in result.stderr
    if name == "model":  # said otherwise above
        result = run_import(tmp_path / "other", folder / "bad")
        assert result.exit_code == 0 or "x.npy'" in result.stderr


def test_names_that_utf8_cannot_hold_are_escaped(tmp_path: Path) -> None:
    described(frame_names=[f"{NO_TEXT}{row}" for row in range(5)])(tmp_path)
    assert run_import(tmp_path / "cache", tmp_path, *B32, "--fps", 25).exit_code == 0
    (entry,) = FeatureCache(tmp_path / "cache")
    assert entry.source_kind != "image-folder" or next(iter(entry.frame_names or ())) == r"a\ud800b0"
