"""The HDF5 store of features: schema, key, read, write, verify.

The names below are loaded when first used, so that importing an error class does not import h5py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .common.errors import (
    CacheError,
    ClipcacheError,
    ContentError,
    EntryError,
    MediaError,
    ModelError,
    NotCachedError,
    UsageError,
)

if TYPE_CHECKING:
    from .common.hashing import DigestMemo
    from .common.messages import show_progress
    from .entry import Entry
    from .format.names import model_dir_name
    from .format.sampling import Sampling
    from .format.schema import SCHEMA_VERSION, EntryAttributes
    from .format.write import write_entry
    from .store import FeatureCache
    from .vector_store import ReferenceStore
    from .verify import Finding

    __version__: str

__all__ = [
    "SCHEMA_VERSION",
    "CacheError",
    "ClipcacheError",
    "ContentError",
    "DigestMemo",
    "Entry",
    "EntryAttributes",
    "EntryError",
    "FeatureCache",
    "Finding",
    "MediaError",
    "ModelError",
    "NotCachedError",
    "ReferenceStore",
    "Sampling",
    "UsageError",
    "__version__",
    "model_dir_name",
    "show_progress",
    "write_entry",
]

_HOME = {
    "SCHEMA_VERSION": "format.schema",
    "DigestMemo": "common.hashing",
    "Entry": "entry",
    "EntryAttributes": "format.schema",
    "FeatureCache": "store",
    "Finding": "verify",
    "ReferenceStore": "vector_store",
    "Sampling": "format.sampling",
    "model_dir_name": "format.names",
    "show_progress": "common.messages",
    "write_entry": "format.write",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer to import than all of this

        return version("clipcache")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
