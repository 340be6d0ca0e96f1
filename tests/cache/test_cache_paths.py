"""The Python API takes a path as text, or as any object that stands for one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cache_entries import FRAMES, MODEL_DIR, make_attributes, make_features
from clipcache.cache import Entry, FeatureCache, ReferenceStore, write_entry
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.cache.export.formats import FORMATS
from clipcache.cache.export.recipe import Recipe
from clipcache.cache.export.run import Export, Target
from clipcache.cache.failure_log import FailureLog
from clipcache.cache.importing.formats import find_files
from clipcache.cache.importing.placing import Timing
from clipcache.cache.importing.run import Claim, Import
from clipcache.cache.merge import find_orphans, merge
from clipcache.cache.pack import pack
from clipcache.cache.select import Selector
from clipcache.cache.store import open_target
from clipcache.cache.vector_store import reference_folder
from clipcache.cache.verify import problem_of


class OwnPath(os.PathLike[str]):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return os.fspath(self._path)


def fail(path: Path, error: Exception) -> None:
    raise AssertionError(f"{path}: {error}")


@pytest.mark.parametrize("as_given", [str, OwnPath])
def test_paths_need_not_be_of_pathlib(tmp_path: Path, as_given: Callable[[Path], Any]) -> None:
    def given(name: str) -> Any:
        return as_given(tmp_path / name)

    (tmp_path / "holiday.mp4").write_bytes(b"holiday")
    memo = DigestMemo(given("memo.sqlite3"))
    attributes = make_attributes(video_sha256=sha256_file(given("holiday.mp4")))
    features = make_features()
    path = write_entry(given("features"), attributes, features, np.arange(FRAMES) * 40.0, np.arange(FRAMES))
    cache = FeatureCache(given("features"), memo)
    assert cache.get(given("holiday.mp4")).path == Entry(as_given(path)).path == path
    assert open_target(as_given(path), given("features")).path == path
    assert problem_of(as_given(path)) is None
    (chosen,) = Selector(given("features"), None, memo, fail).select([given("holiday.mp4")])
    assert chosen.path == path
    assert not FailureLog(given("features")).read()

    assert ReferenceStore(given("features"), MODEL_DIR).put("text", "0" * 64, np.ones(3, np.float32))
    assert pack(cache, given("library.h5"), fail).entries == 1
    assert reference_folder(given("library.h5")) == tmp_path / "library.h5.references"
    assert merge([FeatureCache(given("library.h5"))], given("merged"), fail).written == 1
    assert find_orphans(FeatureCache(given("merged")), [as_given(tmp_path)], fail) == []

    assert Export(Target(given("out"), FORMATS["npz"]), Recipe(), fail).run([chosen]).written == 1
    imported = Import(given("imported"), Claim(), Timing(), [given("holiday.mp4")], memo, fail)
    assert imported.run(find_files([given("out")])).imported == 1
    np.testing.assert_array_equal(FeatureCache(given("imported")).get(given("holiday.mp4")).features, features)
