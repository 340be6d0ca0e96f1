"""Scores of cached features: similarities and statistics.

`similarities`, `paired_similarities` and `score` take arrays and return arrays; they need numpy alone, and are loaded
when first used: importing this package imports nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .similarity import Summary, paired_similarities, score, similarities

__all__ = ["Summary", "paired_similarities", "score", "similarities"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".similarity", __name__), name)
