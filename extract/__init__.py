"""Videos to frames to CLIP features to cache.

`extract` is the whole stage; the modules follow the data: `inputs` and `plan` decide, `index`, `packets`, `decode`,
`preprocess` and `collect` run in the workers, `pool` and `pipeline` lead them, `encoder` and `batching` compute, `run`
ties it together.

The names below are loaded when first used: importing this package imports neither torch nor FFmpeg.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .progress import Summary
    from .run import ExtractOptions, extract

__all__ = ["ExtractOptions", "Summary", "extract"]

_HOME = {"ExtractOptions": "run", "Summary": "progress", "extract": "run"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
