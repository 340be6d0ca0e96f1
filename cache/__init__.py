"""The HDF5 store of features: schema, key, read, write, verify.

The names below are loaded when first used, so that importing an error class does not import h5py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
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
    from .digest import DigestMemo
    from .entry import Entry
    from .key import model_dir_name
    from .references import ReferenceStore
    from .sampling import Sampling
    from .schema import SCHEMA_VERSION, EntryAttributes
    from .store import FeatureCache
    from .verify import Finding
    from .write import write_entry

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
    "model_dir_name",
    "write_entry",
]

_HOME = {
    "SCHEMA_VERSION": "schema",
    "DigestMemo": "digest",
    "Entry": "entry",
    "EntryAttributes": "schema",
    "FeatureCache": "store",
    "Finding": "verify",
    "ReferenceStore": "references",
    "Sampling": "sampling",
    "model_dir_name": "key",
    "write_entry": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
