"""Videos for tests of inputs elsewhere, and their features when they are files of this disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clipcache.extract import ExtractOptions, Summary
from extract_runs import features_of

Run = Callable[..., Summary]


@dataclass(frozen=True)
class Library:
    """Videos by name, and their features when they are files of this disk."""

    videos: dict[str, bytes]
    features: dict[str, Any]

    def assert_same(self, cache_dir: Path, *names: str) -> None:
        """The cache holds these videos, or all, with the very same features."""
        found = features_of(cache_dir)
        assert sorted(found) == sorted(names or self.videos)
        for name, features in found.items():
            np.testing.assert_array_equal(features, self.features[name])


def options(weights: Path, **more: Any) -> ExtractOptions:
    return ExtractOptions(model="tiny", weights=weights, device="cpu", precision="fp32", num_workers=0, **more)


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w", **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **how) as tar:
        for name, data in files.items():
            add(tar, name, data)
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **how: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in how.items():
        setattr(info, attribute, value)
    tar.addfile(info, io.BytesIO(data))
