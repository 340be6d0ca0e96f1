"""Make the API reference from the docstrings: `python docs/build_api.py OUTPUT`; a warning is an error.

The pages are not kept in the repository: they are built from it, by CI too.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pdoc

PACKAGES = ("clipcache.cache", "clipcache.extract", "clipcache.score")
MODULES = (
    "clipcache.cache.dataset",
    "clipcache.cache.export.formats",
    "clipcache.cache.export.rows",
    "clipcache.cache.format.packed",
    "clipcache.extract.models.contract",
)


def main(output: Path) -> int:
    """Write the pages; the number of modules documented."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")  # openai-clip imports it
    for name in PACKAGES:
        _resolve(importlib.import_module(name))
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*PACKAGES, *MODULES, output_directory=output)
    return len(list(output.rglob("*.html")))


def _resolve(package: ModuleType) -> None:
    """Public names are imported when they are first used; the pages need them now."""
    for name in getattr(package, "__all__", ()):
        setattr(package, name, getattr(package, name))


if __name__ == "__main__":
    print(f"{main(Path(sys.argv[1]))} pages in {sys.argv[1]}")
