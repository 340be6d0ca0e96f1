"""The rules of the layout that a glance at one file cannot check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clipcache.cache
import pytest

ROOT = Path(clipcache.cache.__file__).resolve().parents[1]
ALLOWED = {part: {part, "cache"} for part in ("cache", "demo", "extract", "score")}


def imported_parts(path: Path) -> Iterator[str]:
    """Names of the sub-packages that a module imports from, absolutely or relatively."""
    here = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            whole = (*base, *(node.module or "").split("."))
            yield whole[0] if node.level else whole[1] if whole[0] == "clipcache" else ""


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_point_one_way(part: str) -> None:
    for path in sorted((ROOT / part).rglob("*.py")):
        assert set(imported_parts(path)) - {""} <= ALLOWED[part], path.name


@pytest.mark.parametrize("part", [*sorted(ALLOWED), "cli.py"])
def test_no_module_outgrows_a_head(part: str) -> None:
    paths = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    for path in paths:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


@pytest.mark.parametrize("module", ["clipcache.cache.store", "clipcache.score", "clipcache.extract", "clipcache.cli"])
def test_nothing_heavy_is_imported_before_it_is_needed(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{'torch', 'av', 'decord', 'PIL', 'clip'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
