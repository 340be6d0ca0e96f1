"""Cached features to similarities and statistics.

`similarities`, `paired_similarities` and `score` take arrays and return arrays; they need numpy alone.
"""

from __future__ import annotations

from .similarity import Summary, paired_similarities, score, similarities

__all__ = ["Summary", "paired_similarities", "score", "similarities"]
