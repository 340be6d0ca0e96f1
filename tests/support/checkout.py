"""Where the checkout is, for tests of what lies outside the packages: docs, examples, benchmarks, the wheel."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).resolve().parent
