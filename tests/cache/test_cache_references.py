"""Embeddings of references, and failures: small files that never get in the way."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_entries import MODEL_DIR, put_entry, sha256_of
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import CacheError
from clipcache.cache.failure_log import Failure, FailureLog
from clipcache.cache.vector_store import ReferenceStore, text_key
from clipcache.cache.verify import remove_bad, verify

VECTOR = np.linspace(-1, 1, 512, dtype=np.float32)
FAILURE = Failure("a b.mp4", "1" * 64, "MediaError", "a b.mp4 has no frames.", "2026-01-02T03:04:05Z", MODEL_DIR)


def test_a_vector_comes_back_exactly(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    key = text_key("a dog")
    assert store.get("text", key) is None
    assert store.put("text", key, VECTOR) is True
    found = ReferenceStore(tmp_path, MODEL_DIR).get("text", key)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTOR)
    assert store.get("image", key) is None
    assert ReferenceStore(tmp_path, "ViT-L-14-00000000").get("text", key) is None


def test_prompts_have_their_own_keys() -> None:
    assert text_key("a dog") == hashlib.sha256(b"a dog").hexdigest()
    assert len({text_key(prompt) for prompt in ("a dog", "a dog ", "A dog", "", "żółw", "\udce9")}) == 6


@pytest.mark.parametrize("damage", [b"", b"text", None, b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path: Path, damage: bytes | None) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    store.put("text", text_key("a dog"), VECTOR)
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    assert store.get("text", text_key("a dog")) is None
    store.put("text", text_key("a dog"), VECTOR)
    assert store.get("text", text_key("a dog")) is not None


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), np.float32),
        np.zeros(3),
        np.array([np.nan], np.float32),
        np.zeros(0, np.float32),
        np.array(["x"]),
    ],
)
def test_another_array_is_a_miss(tmp_path: Path, array: np.ndarray) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    store.put("text", text_key("a dog"), VECTOR)
    (path,) = tmp_path.rglob("*.npy")
    np.save(path, array)
    assert store.get("text", text_key("a dog")) is None


def test_a_vector_of_another_length_is_a_miss(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    key = text_key("a dog")
    store.put("text", key, VECTOR)
    assert store.get("text", key, 768) is None
    assert store.get_many("text", [key], 768) == [None]
    np.testing.assert_array_equal(store.get("text", key, 512), VECTOR)


def test_a_file_that_declares_more_than_it_holds_is_a_miss(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    store.put("text", text_key("a dog"), VECTOR)
    (path,) = tmp_path.rglob("*.npy")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    path.write_bytes(header.getvalue() + VECTOR.tobytes())
    assert store.get("text", text_key("a dog")) is None


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    store.put("text", text_key("a dog"), VECTOR)
    (path,) = tmp_path.rglob("*.npy")
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert store.get("text", text_key("a dog")) is None


def test_a_read_only_cache_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert ReferenceStore(tmp_path, MODEL_DIR).put("text", text_key("a dog"), VECTOR) is False
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_key_cannot_lead_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="not a sha256"):
        ReferenceStore(tmp_path, MODEL_DIR).get("text", "../" * 20 + "abcd")


def test_thousands_of_prompts_are_quick(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, MODEL_DIR)
    keys = [text_key(f"prompt {number}") for number in range(2000)]
    for number, key in enumerate(keys):
        store.put("text", key, VECTOR + number)
    started = time.monotonic()
    vectors = store.get_many("text", keys)
    assert time.monotonic() - started < 3
    np.testing.assert_array_equal(vectors[1999], VECTOR + 1999)


def test_failures_come_back_the_latest_of_each(tmp_path: Path) -> None:
    log = FailureLog(tmp_path / "cache")
    assert log.read() == {}
    unreadable = dataclasses.replace(FAILURE, path="gone.mp4", sha256="")
    later = dataclasses.replace(FAILURE, sentence="still bad.\nreally", path=os.fsdecode(b"\xe9.mp4"))
    for failure in (FAILURE, unreadable, later):
        log.append(failure)
    assert log.path.name == "failed.jsonl"
    assert log.read() == {"1" * 64: later, "gone.mp4": unreadable}


def test_failures_are_of_a_model(tmp_path: Path) -> None:
    log = FailureLog(tmp_path)
    other = dataclasses.replace(FAILURE, model_dir="ViT-L-14-abababab")
    log.append(FAILURE)
    log.append(other)
    assert log.read(MODEL_DIR) == {"1" * 64: FAILURE}
    log.forget([FAILURE.sha256], MODEL_DIR)
    assert log.read() == {"1" * 64: other}


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    log = FailureLog(tmp_path)
    log.append(FAILURE)
    second = dataclasses.replace(FAILURE, sha256="2" * 64)
    log.append(second)
    log.path.write_bytes(log.path.read_bytes()[:-20])
    assert log.read() == {"1" * 64: FAILURE}
    third = dataclasses.replace(FAILURE, sha256="3" * 64)
    log.append(third)
    assert log.read() == {"1" * 64: FAILURE, "3" * 64: third}


@pytest.mark.parametrize("line", [b"[]", b"{}", b"\xff\xfe", b'{"path": 3}', b"nonsense"])
def test_lines_of_others_are_left_out_and_left_alone(tmp_path: Path, line: bytes) -> None:
    log = FailureLog(tmp_path)
    log.path.write_bytes(line + b"\n")
    log.append(FAILURE)
    assert log.read() == {"1" * 64: FAILURE}
    log.forget([FAILURE.sha256])
    assert log.read() == {}
    assert line in log.path.read_bytes()


def test_forgetting_the_unknown_writes_nothing(tmp_path: Path) -> None:
    FailureLog(tmp_path).forget(["1" * 64])
    assert list(tmp_path.iterdir()) == []


def test_two_runs_append_whole_lines(tmp_path: Path) -> None:
    code = """
import dataclasses, sys
from pathlib import Path
from clipcache.cache.failure_log import Failure, FailureLog
for number in range(300):
    sha256 = f"{sys.argv[2]}{number:063x}"
    FailureLog(Path(sys.argv[1])).append(Failure("x" * 300, sha256, "MediaError", "bad " * 50, "now", "model"))
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), run]) for run in "ab"]
    assert [run.wait() for run in runs] == [0, 0]
    assert len(FailureLog(tmp_path).read()) == 600


def test_a_log_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    log = FailureLog(tmp_path)
    log.path.mkdir()
    for call in (log.read, lambda: log.append(FAILURE), lambda: log.forget([sha256_of("x")])):
        with pytest.raises(CacheError, match=r"Cannot (read|write) .*failed\.jsonl"):
            call()


@pytest.mark.parametrize("harm", ["flipped bit", "another prompt", "another model", "zeros", "3e38", "cut", "no seal"])
def test_a_vector_that_is_not_what_it_says_is_absent_and_found_by_verify(tmp_path: Path, harm: str) -> None:
    put_entry(tmp_path)
    store, key = ReferenceStore(tmp_path, MODEL_DIR), text_key("a dog")
    assert store.put("text", key, VECTOR)
    path = store._path("text", key)
    whole = bytearray(path.read_bytes())
    if harm == "flipped bit":
        whole[-40] ^= 1
    elif harm == "another prompt":
        store.put("text", text_key("a cat"), VECTOR + 1)
        whole = bytearray(store._path("text", text_key("a cat")).read_bytes())
    elif harm == "another model":
        other = ReferenceStore(tmp_path / "other", "RN50-12345678")
        other.put("text", key, VECTOR)
        whole = bytearray(other._path("text", key).read_bytes())
    elif harm in ("zeros", "3e38"):
        whole[-32 - 4 * len(VECTOR) : -32] = np.full(len(VECTOR), 0 if harm == "zeros" else 3e38, "<f4").tobytes()
    else:
        del whole[-32 if harm == "no seal" else -1 :]
    path.write_bytes(whole)
    assert store.get("text", key) is None
    bad = [finding for finding in verify(FeatureCache(tmp_path)) if finding.problem]
    assert [finding.path for finding in bad] == [path]
    assert "is not the embedding that its name says" in str(bad[0].problem)
    assert remove_bad(bad) == [path]
    assert not [finding for finding in verify(FeatureCache(tmp_path)) if finding.problem]


def test_a_vector_is_still_an_npy_file(tmp_path: Path) -> None:
    store, key = ReferenceStore(tmp_path, MODEL_DIR), text_key("a dog")
    store.put("text", key, VECTOR)
    np.testing.assert_array_equal(np.load(store._path("text", key)), VECTOR)


@pytest.mark.parametrize("value", [0.0, 3e4 * 3e4])
def test_verify_finds_features_that_no_model_gives(tmp_path: Path, value: float) -> None:
    path = put_entry(tmp_path)
    assert not [finding for finding in verify(FeatureCache(tmp_path)) if finding.problem]
    with h5py.File(path, "r+") as file:
        features = np.asarray(file["features"], np.float32)
        features[1] = value
        del file["features"]
        file.create_dataset("features", data=features, chunks=features.shape, fletcher32=True)
    (bad,) = [finding for finding in verify(FeatureCache(tmp_path)) if finding.problem]
    assert "that no model gives" in str(bad.problem)
