"""The snippets of docs/export.md, run as they stand, each on the export that it names."""

from __future__ import annotations

import gc
import importlib.util
import re
import shlex
import warnings
from pathlib import Path

import pytest
from checkout import CHECKOUT
from click.testing import CliRunner
from clipcache.cli import cli
from demo_library import DemoLibrary

PAGE = CHECKOUT / "docs" / "export.md"


def snippets() -> dict[str, tuple[str, str]]:
    """By what is printed in bold, the options that export for it and the code."""
    if not PAGE.is_file():
        return {}
    part = PAGE.read_text("utf-8").partition("### Snippets to copy\n")[2].partition("\n### ")[0]
    found, options = {}, ""
    for name, text, code in re.findall(r"\*\*(.+?)\*\*(.*?)```python\n(.*?)```", part, re.DOTALL):
        said = re.search(r"`(--format [^`]+)`", text)
        options = said[1] if said else options  # "the same shards"
        found[name] = (options, code)
    return found


SNIPPETS = snippets()


def test_there_is_one_for_each_kind_of_reader() -> None:
    if not PAGE.is_file():
        pytest.skip("the docs lie in the checkout")
    assert len(SNIPPETS) == 7
    assert all(options for options, _ in SNIPPETS.values())


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs(demo_library: DemoLibrary, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, code = SNIPPETS[name]
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    monkeypatch.chdir(tmp_path)
    videos = [str(demo_library.folder / video) for video in ("shapes.mp4", "encore.mp4")]
    words = ["export", *videos, "--cache", str(demo_library.cache_dir), *shlex.split(options)]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    held: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the garbage collector
        exec(compile(code, f"docs/export.md: {name}", "exec"), held)  # noqa: S102 - our own documentation
        gc.collect()
    features = held["features"]
    assert features.ndim == 2  # type: ignore[attr-defined]
    assert features.shape[1] == 512  # type: ignore[attr-defined]


def test_metadata_of_several_videos_can_be_batched(demo_library: DemoLibrary, tmp_path: Path) -> None:
    """As clip-video-encode's reader with `enable_meta=True` does: lists of several lengths would not collate."""
    webdataset = pytest.importorskip("webdataset")
    from torch.utils.data import default_collate

    words = ["export", "--cache", demo_library.cache_dir, "--format", "webdataset", "--output", tmp_path / "out"]
    assert CliRunner().invoke(cli, [str(word) for word in words]).exit_code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        shard = str(tmp_path / "out" / "00000_clip_embeddings.tar")
        samples = list(webdataset.WebDataset(shard, shardshuffle=False).decode())
        gc.collect()
    assert len({sample["npy"].shape for sample in samples}) > 1
    batch = default_collate([sample["json"] for sample in samples])
    assert batch["model"] == ["demo"] * len(samples)
