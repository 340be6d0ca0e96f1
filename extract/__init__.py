"""Videos, images and sound to features in the cache: the stage `clipcache extract`.

ARCHITECTURE.md in the repository says which module does what.

The names below are loaded when first used: importing this package imports neither torch nor FFmpeg.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster.shards import Shard
    from .models.prompts import LoadedModel, load_model
    from .options import ExtractOptions
    from .progress import ProgressReport, Summary
    from .run import extract

__all__ = ["ExtractOptions", "LoadedModel", "ProgressReport", "Shard", "Summary", "extract", "load_model"]

_HOME = {
    "ExtractOptions": "options",
    "LoadedModel": "models.prompts",
    "Shard": "cluster.shards",
    "ProgressReport": "progress",
    "Summary": "progress",
    "extract": "run",
    "load_model": "models.prompts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
