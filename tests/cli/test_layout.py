"""The rules of the layout that a glance at one file cannot check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import clipcache.cache
import pytest
from checkout import CHECKOUT

ROOT = Path(clipcache.cache.__file__).resolve().parents[1]
PARTS = ("cache", "demo", "extract", "score")
PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix() for part in PARTS for path in (ROOT / part).rglob("__init__.py")
)
MODULES = [ROOT / "cli.py", *(path for package in PACKAGES for path in sorted((ROOT / package).glob("*.py")))]

_STORE = {"cache", "cache/common", "cache/format"}
ALLOWED = {
    "cache": {"cache/common", "cache/format"},
    "cache/common": set(),
    "cache/export": _STORE,
    "cache/format": {"cache/common"},
    "cache/importing": _STORE,
    "demo": {"cache/common"},
    "demo/training": {"cache/common", "demo"},
    "extract": {
        *_STORE,
        "extract/audio",
        "extract/cluster",
        "extract/devices",
        "extract/models",
        "extract/remote",
        "extract/video",
        "extract/workers",
    },
    "extract/audio": {*_STORE, "extract", "extract/cluster", "extract/models", "extract/video", "extract/workers"},
    "extract/cluster": {*_STORE, "extract", "extract/audio", "extract/models", "extract/remote", "extract/workers"},
    "extract/devices": {"cache/common", "extract/models", "extract/workers"},
    "extract/machine": {*_STORE, "extract", "extract/cluster", "extract/models", "extract/video", "extract/workers"},
    "extract/models": {"cache/common", "cache/format", "extract/video"},
    "extract/remote": {"cache/common"},
    "extract/video": {"cache/common", "cache/format", "extract/video/file_checks"},
    "extract/video/file_checks": set(),
    "extract/workers": {"cache/common", "cache/format", "extract/video"},
    "score": _STORE,
    "score/align": {*_STORE, "score"},
    "score/quality": {*_STORE, "score"},
    "score/search": {*_STORE, "score"},
}
"""What the modules of each package may import besides each other: modules right in these packages."""

NAMED_PATH = re.compile(r"(?<![\w./-])(?:cache|demo|docs|extract|score|tests)/[\w/]*(?:\.\w+)?")


def name_of(path: Path) -> str:
    """A module as ARCHITECTURE.md names it, without suffix; a package by its folder."""
    return path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__")


def package_of(name: str) -> str:
    return name if name in PACKAGES else name.rpartition("/")[0]


def imported(path: Path, nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules of clipcache that are imported; one that is not imported relatively is named with its dots."""
    folder = path.relative_to(ROOT).parent.parts
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "clipcache")
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ROOT.joinpath(*folder[: len(folder) - node.level + 1], *(node.module or "").split("."))
            for alias in node.names:
                below = base / alias.name
                yield name_of(below if below.is_dir() or below.with_suffix(".py").is_file() else base)
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "clipcache":
            yield str(node.module)


def nodes_run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one that run when a module is imported: not in functions, nor for a type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from (below for other in child.orelse for below in (other, *nodes_run_at_import(other)))
            continue
        yield child
        yield from nodes_run_at_import(child)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_package_has_a_rule() -> None:
    assert set(PACKAGES) <= set(ALLOWED)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    for path in sorted((ROOT / package).glob("*.py")):
        for target in imported(path, ast.walk(parsed(path))):
            assert package_of(target) in {package, *ALLOWED[package]}, f"{name_of(path)} imports {target}"


def test_commands_are_imported_by_cli_alone() -> None:
    for path in MODULES[1:]:
        assert not [name for name in imported(path, ast.walk(parsed(path))) if name.endswith("command")], path


def test_modules_do_not_import_each_other_in_a_ring() -> None:
    graph = {name_of(path): set(imported(path, nodes_run_at_import(parsed(path)))) for path in MODULES}
    assert graph["cache/store"] >= {"cache/common/hashing", "cache/entry", "cache/format/names"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_holds_too_many_modules(package: str) -> None:
    assert len([path for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"]) <= 20


@pytest.mark.parametrize("part", [*PARTS, "cli.py"])
def test_no_module_outgrows_a_head(part: str) -> None:
    paths = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    for path in paths:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


@pytest.mark.parametrize("module", ["clipcache.cache.store", "clipcache.score", "clipcache.extract", "clipcache.cli"])
def test_nothing_heavy_is_imported_before_it_is_needed(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{'torch', 'av', 'decord', 'PIL', 'clip'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.fixture(scope="module")
def architecture() -> str:
    if not (CHECKOUT / "ARCHITECTURE.md").is_file():
        pytest.skip("needs the checkout: these tests run from a copy of tests/ alone")
    return (CHECKOUT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_what_the_architecture_names_exists(architecture: str) -> None:
    named = set(NAMED_PATH.findall(architecture))
    assert len(named) > 80
    assert {name for name in named if not (CHECKOUT / name).exists()} == set()


def test_the_architecture_names_every_package(architecture: str) -> None:
    assert {package for package in PACKAGES if f"`{package}/`" not in architecture} == set()
