"""The Python of README.md and docs/python.md runs as it is written, with the demo's library and model."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkout import CHECKOUT
from demo_library import DemoLibrary
from PIL import Image

PAGES = ["README.md", "docs/python.md"]


@pytest.mark.skipif(not (CHECKOUT / "docs").is_dir(), reason="the docs lie in the checkout")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(
    page: str, demo_library: DemoLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas")
    shutil.copytree(demo_library.folder, tmp_path / "videos")
    shutil.copytree(demo_library.cache_dir, tmp_path / "features")
    shutil.copy(tmp_path / "videos" / "encore.mp4", tmp_path / "video.mp4")
    Image.effect_noise((60, 40), 80).convert("RGB").save(tmp_path / "dog.jpg")
    monkeypatch.chdir(tmp_path)
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    code = "\n".join(blocks).replace('"ViT-B/32"', '"demo"').replace("num_workers=4", "num_workers=0")
    names = {"pixels": np.zeros((50, 60, 3), np.uint8)}
    exec(compile(code, page, "exec"), names)  # noqa: S102  our own page
    assert names["cosines"].shape == (len(names["entry"].features), 2)
    assert np.abs(names["cosines"]).max() <= 1 + 1e-6
    assert len(names["summaries"]) == 2  # type: ignore[arg-type]


def test_every_public_function_takes_paths_as_text() -> None:
    """What it says to type checkers; that it is so, the tests of each package prove by calling."""
    wrong = []
    for package in ("cache", "extract", "score"):
        module = importlib.import_module(f"clipcache.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            members = inspect.getmembers(thing, inspect.isroutine) if inspect.isclass(thing) else [("", thing)]
            for member, function in members:
                if member == "__init__" or (callable(function) and not member.startswith("_")):
                    wrong += [f"{package}.{name}.{member}({one})" for one in _paths_alone(function)]
    assert wrong == ["cache.Finding.__init__(path: 'Path')"]  # which only `verify` makes


def _paths_alone(function: object) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    return [str(one) for one in parameters if re.search(r"(?<!\w)Path\b", str(one.annotation))]
