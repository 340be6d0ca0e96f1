"""Videos to frames to CLIP features to cache.

`extract` is the whole stage; the modules follow the data. `inputs`, `plan` and `prepare` decide; `index`, `packets`,
`decode`, `quality`, `preprocess` and `collect` run in the workers (`worker`); `process`, `pool` and `pipeline` lead
them; `models`, `encoder` and `batching` compute; `record` and `run` write entries and tie it all together.

The names below are loaded when first used: importing this package imports neither torch nor FFmpeg.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .prepare import ExtractOptions
    from .progress import Summary
    from .run import extract

__all__ = ["ExtractOptions", "Summary", "extract"]

_HOME = {"ExtractOptions": "prepare", "Summary": "progress", "extract": "run"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
