"""References: what is asked once is not encoded again, and files of prompts and embeddings are read strictly."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from clipcache.cache import DigestMemo, ReferenceStore
from clipcache.cache.common.errors import ModelError, UsageError
from clipcache.score.references import ReferenceEncoder, ReferenceResolver, read_embeddings, read_prompts
from score_caches import VECTORS, FakeEncoder, X, Y, Z

LONG = "word " * 80


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore(tmp_path / "cache", "ViT-B-32-44444444")


class Loader:
    """Loads one fake encoder and counts how often."""

    def __init__(self) -> None:
        self.encoder = FakeEncoder()
        self.loads = 0

    def __call__(self) -> ReferenceEncoder:
        self.loads += 1
        return self.encoder


def resolver(store: ReferenceStore | None, loader: Loader) -> ReferenceResolver:
    return ReferenceResolver(store, loader, DigestMemo().sha256)


def test_a_prompt_is_encoded_once_and_then_known(store: ReferenceStore) -> None:
    first = Loader()
    references = resolver(store, first).texts(["y axis", "x axis", "y axis"])
    assert [(reference.kind, reference.name) for reference in references] == [("text", "y axis"), ("text", "x axis")]
    np.testing.assert_array_equal(references[0].vector, VECTORS["y axis"])
    np.testing.assert_array_equal(references[1].vector, VECTORS["x axis"])
    assert first.encoder.texts == ["y axis", "x axis"]

    second = Loader()
    again = resolver(store, second).texts(["x axis", "z axis", "y axis"])
    np.testing.assert_array_equal([reference.vector for reference in again], [5 * X, Z, 7 * Y])
    assert second.encoder.texts == ["z axis"]

    third = Loader()
    resolver(store, third).texts(["x axis", "y axis", "z axis"])
    assert third.loads == 0


def test_the_model_is_loaded_at_most_once(store: ReferenceStore, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_text("x axis")
    loader = Loader()
    resolving = resolver(store, loader)
    resolving.texts(["x axis"])
    resolving.texts(["y axis"])
    resolving.images([image])
    assert loader.loads == 1


def test_nothing_is_loaded_for_no_references(store: ReferenceStore) -> None:
    loader = Loader()
    assert resolver(store, loader).texts([]) == []
    assert resolver(store, loader).images([]) == []
    assert loader.loads == 0


def test_without_a_store_everything_is_encoded() -> None:
    loader = Loader()
    resolver(None, loader).texts(["x axis"])
    resolver(None, loader).texts(["x axis"])
    assert loader.encoder.texts == ["x axis", "x axis"]


def test_an_image_is_known_by_its_content_not_its_name(store: ReferenceStore, tmp_path: Path) -> None:
    old, new = tmp_path / "old.jpg", tmp_path / "new.jpg"
    old.write_text("x axis")
    resolver(store, Loader()).images([old])
    old.rename(new)
    loader = Loader()
    (reference,) = resolver(store, loader).images([new])
    assert loader.loads == 0
    assert (reference.kind, reference.name) == ("image", "new.jpg")
    new.write_text("y axis")
    (changed,) = resolver(store, loader).images([new])
    np.testing.assert_array_equal(changed.vector, 7 * Y)


def test_a_long_prompt_stays_an_error_after_it_was_once_truncated(store: ReferenceStore) -> None:
    cut = Loader()
    resolver(store, cut).texts([LONG], truncate=True)
    resolver(store, cut).texts([LONG], truncate=True)
    assert cut.encoder.texts == [LONG]
    with pytest.raises(ModelError, match="too long"):
        resolver(store, Loader()).texts([LONG])


def test_what_fitted_whole_needs_no_truncating(store: ReferenceStore) -> None:
    resolver(store, Loader()).texts(["x axis"])
    loader = Loader()
    resolver(store, loader).texts(["x axis"], truncate=True)
    assert loader.loads == 0


def test_a_vector_that_is_not_finite_is_refused_and_not_kept(
    store: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VECTORS, "x axis", np.full(4, np.nan, np.float32))
    with pytest.raises(ModelError, match="finite"):
        resolver(store, Loader()).texts(["x axis"])
    monkeypatch.setitem(VECTORS, "x axis", X)
    (reference,) = resolver(store, Loader()).texts(["x axis"])
    np.testing.assert_array_equal(reference.vector, X)


@pytest.mark.parametrize("prompt", ["", " \n", "caf\udce9"], ids=["empty", "blank", "not UTF-8"])
def test_a_prompt_must_be_text(prompt: str) -> None:
    with pytest.raises(UsageError, match="prompt"):
        resolver(None, Loader()).texts(["x axis", prompt])


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.jpg"):
        resolver(None, Loader()).images([tmp_path / "nowhere.jpg"])
    with pytest.raises(UsageError, match="no reference image"):
        resolver(None, Loader()).images([tmp_path / ("x" * 300 + ".jpg")])


def test_prompts_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff a café \r\n\n# a comment\n  \nnumber # 2\n".encode())
    assert read_prompts(path) == ["a café", "number # 2"]


@pytest.mark.parametrize(
    "content", [None, b"", b"# only\n", b"caf\xe9"], ids=["missing", "empty", "comments", "latin1"]
)
def test_a_file_of_no_prompts_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"prompts\.txt"):
        read_prompts(path)


def test_embeddings_come_with_their_names_or_numbers(tmp_path: Path) -> None:
    rows = np.array([X, Y], np.float16)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "named.npz", features=rows, names=np.array(["left", "up"]))
    np.savez(tmp_path / "bare.npz", features=rows)
    for file, names in (
        ("rows.npy", ["rows.npy[0]", "rows.npy[1]"]),
        ("named.npz", ["left", "up"]),
        ("bare.npz", ["bare.npz[0]", "bare.npz[1]"]),
    ):
        references = read_embeddings(tmp_path / file, 4)
        assert [reference.name for reference in references] == names
        assert {reference.kind for reference in references} == {"embedding"}
        np.testing.assert_array_equal([reference.vector for reference in references], rows)


def _declaring(count: int) -> bytes:
    """An .npy file that holds two rows and says that it holds `count`."""
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": (count, 4)})
    return data.getvalue() + np.array([X, Y]).tobytes()


def test_the_file_that_declares_what_it_holds_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.npy").write_bytes(_declaring(2))
    np.testing.assert_array_equal([one.vector for one in read_embeddings(tmp_path / "rows.npy", 4)], [X, Y])


def _write_bad(path: Path, kind: str) -> None:
    rows = np.array([X, Y])
    arrays = {
        "flat": X,
        "other width": rows[:, :3],
        "integers": rows.astype(int),
        "no rows": rows[:0],
        "not finite": np.array([X, np.inf * (X + 1)]),
        "pickled": np.array([X, "name"], dtype=object),
    }
    with path.open("wb") as file:
        if kind in arrays:
            np.save(file, arrays[kind])
        elif kind == "no features":
            np.savez(file, vectors=rows)
        elif kind == "names short":
            np.savez(file, features=rows, names=np.array(["one"]))
        elif kind == "text":
            file.write(b"0.1 0.2 0.3 0.4\n")
        elif kind == "cut zip":
            np.savez(file, features=rows)
            file.truncate(100)
        elif kind == "declared far too long":
            file.write(_declaring(10**12))
        elif kind == "declared too long in a zip":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("features.npy", _declaring(10**12))
        elif kind == "broken header":
            file.write(_declaring(2).replace(b"(2, 4), }", b"(2, 4), ("))


@pytest.mark.parametrize(
    "kind",
    [
        "flat",
        "other width",
        "integers",
        "no rows",
        "not finite",
        "pickled",
        "no features",
        "names short",
        "text",
        "empty",
        "cut zip",
        "declared far too long",
        "declared too long in a zip",
        "broken header",
    ],
)
def test_embeddings_that_cannot_be_meant_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "vectors.npy"
    _write_bad(path, kind)
    with pytest.raises(UsageError, match=r"vectors\.npy"):
        read_embeddings(path, 4)


def test_compressed_embeddings_are_read(tmp_path: Path) -> None:
    rows = np.ones((1000, 4), np.float32)  # larger than the file that holds them
    np.savez_compressed(tmp_path / "rows.npz", features=rows)
    assert (tmp_path / "rows.npz").stat().st_size < rows.nbytes
    assert len(read_embeddings(tmp_path / "rows.npz", 4)) == 1000


def test_missing_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.npy.*No such file"):
        read_embeddings(tmp_path / "nowhere.npy", 4)
