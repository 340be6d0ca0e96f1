"""An entry of which nothing is known stays: a disk that fails for a while, a newer schema, another layout of HDF5."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cache_entries import put_entry
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import EntryError, UncheckedEntryError
from clipcache.cache.format.guard import raises_entry_error
from clipcache.cache.format.read import can_validate
from clipcache.cache.merge import merge
from clipcache.cache.verify import remove_bad, verify


def failing_open(number: int, patch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, f"Unable to synchronously open file (errno = {number})")

    patch.setattr("clipcache.cache.format.read.h5py.File", fail)


def failing_read(number: int, patch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, f"Can't synchronously read data (errno = {number})")

    patch.setattr("clipcache.cache.verify.features_problem", fail)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES])
@pytest.mark.parametrize("fail", [failing_open, failing_read])
@pytest.mark.parametrize("lasts", [False, True])
def test_a_read_error_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., None], number: int, lasts: bool
) -> None:
    path = put_entry(tmp_path)
    with monkeypatch.context() as patch:
        fail(number, patch)
        findings = list(verify(FeatureCache(tmp_path)))
        removed = remove_bad(findings) if lasts else []
    assert [(os.strerror(number) in str(finding.problem)) for finding in findings] == [True]
    assert removed + remove_bad(findings) == []
    assert path.exists()


def test_what_was_replaced_since_it_was_found_bad_stays(tmp_path: Path) -> None:
    path = put_entry(tmp_path)
    path.write_bytes(path.read_bytes()[:3000])
    findings = list(verify(FeatureCache(tmp_path)))
    put_entry(tmp_path)
    assert remove_bad(findings) == []
    assert len(Entry(path)) == 50


def make_newer(path: Path, _: pytest.MonkeyPatch) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99


def make_latest(path: Path, _: pytest.MonkeyPatch) -> None:
    shutil.move(path, path.with_suffix(".old"))
    with h5py.File(path.with_suffix(".old")) as old, h5py.File(path, "w", libver="latest") as new:
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = value
    path.with_suffix(".old").unlink()


def make_unreadable(path: Path, patch: pytest.MonkeyPatch) -> None:
    real = h5py.File

    def fail(name: Any, *arguments: Any, **options: Any) -> Any:
        if Path(name) == path:
            raise OSError(errno.EIO, "Unable to synchronously open file")
        return real(name, *arguments, **options)

    patch.setattr("clipcache.cache.format.read.h5py.File", fail)


@pytest.mark.parametrize("spoil", [make_newer, make_latest, make_unreadable])
def test_merge_and_verify_leave_what_they_cannot_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    put_entry(tmp_path / "source", 50, seed=1)
    target = put_entry(tmp_path / "target", 50, seed=2)
    spoil(target, monkeypatch)
    content = target.read_bytes()
    told: list[EntryError] = []
    merged = merge([FeatureCache(tmp_path / "source")], tmp_path / "target", lambda _, error: told.append(error))
    assert (merged.written, merged.kept) == (0, 0)
    assert [type(error) for error in told] == [UncheckedEntryError]
    assert str(target) in str(told[0])
    assert remove_bad(verify(FeatureCache(tmp_path / "target"))) == []
    assert not can_validate(target)
    assert target.read_bytes() == content


def test_merge_replaces_a_damaged_target(tmp_path: Path) -> None:
    source = put_entry(tmp_path / "source", seed=1)
    target = put_entry(tmp_path / "target", seed=2)
    target.write_bytes(target.read_bytes()[:3000])
    merge([FeatureCache(tmp_path / "source")], tmp_path / "target", lambda *_: None)
    np.testing.assert_array_equal(Entry(target).features, Entry(source).features)


HDF5_SAYS = "Can't synchronously read data (memory allocation failed for raw data chunk)"


@pytest.mark.parametrize("error", [MemoryError(), OSError(HDF5_SAYS)], ids=["bare", "HDF5's"])
def test_a_lack_of_memory_is_not_damage(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(MemoryError), raises_entry_error(tmp_path):
        raise error
