"""Every command that the README and the docs show is run as typed there, or parsed where it cannot be run here."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import click
import command_lines
import numpy as np
import pytest
from checkout import CHECKOUT
from click.testing import CliRunner
from clipcache.cli import cli
from demo_library import DemoLibrary
from PIL import Image

if not (CHECKOUT / "docs").is_dir():
    pytest.skip("the docs lie in the checkout", allow_module_level=True)

PAGES = sorted(["README.md", *(f"docs/{page.name}" for page in (CHECKOUT / "docs").glob("*.md"))])
# Commands that are only parsed, by an expression for them, and why.
NOT_RUN = {
    "--weights|local-dir": "needs weights of the user",
    "--head": "needs a head that others publish",
    "ViT-L/14|open_clip:": "needs weights to be downloaded",
    "--model ViT-B/32|lvis.npy": "needs features of ViT-B/32",
    "--audio|clap|^align": "needs weights of CLAP",
    "--ray": "needs Ray, and two of three a cluster",
    "^demo": "tests/demo runs it",
    "://|[.]tar": "needs what lies elsewhere",
}


def is_run(words: Sequence[str]) -> bool:
    return not any(re.search(expression, " ".join(words)) for expression in NOT_RUN)


def text_of(page: str) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8")


def block(page: str, kind: str, first: str) -> str:
    """The content of the code block of a page that begins with these words: a file that its commands name."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return next(content for content in blocks if content.startswith(first))


@pytest.fixture
def workplace(demo_library: DemoLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the commands name: the demo library, and stand-ins for files of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCACHE_MODEL", "demo")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    shutil.copytree(demo_library.folder, "demo/videos")
    for folder in ("demo/features", "features", "features_a", "features_b"):
        shutil.copytree(demo_library.cache_dir, folder)
    shutil.copytree(demo_library.folder, "videos")
    for copy in ("video.mp4", "generated.mp4", "FOLDER/still.mp4", "clips/a/b.mkv", "shoot/a.mp4", "real/0001.mp4"):
        Path(copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("videos/variable.mkv" if copy.endswith(".mkv") else "videos/still.mp4", copy)
    Path("generated").mkdir()
    shutil.copy("videos/shapes.mp4", "real.mp4")
    for name in ("0001", "0002"):
        shutil.copy("videos/encore.mp4", f"generated/{name}.mp4")
    for name in ("a", "b", "reference", "shoot/1"):
        Image.new("RGB", (64, 64), "red").save(f"{name}.jpg")
    Path("prompts.txt").write_text("a red circle\na blue square\n")
    Path("more.txt").write_text("video.mp4\n")
    np.savez("class_features.npz", features=np.eye(3, 512, dtype=np.float32))
    Path("generated.csv").write_text(block("docs/scoring.md", "csv", "video,"))
    Path("classes.yaml").write_text(block("docs/scoring.md", "yaml", "templates:"))
    Path("mine.yaml").write_text(block("docs/quality.md", "yaml", "pairs:"))
    for name in ("bench.yaml", "methods.yaml"):
        Path(name).write_text(block("docs/quality.md", "yaml", "videos: videos"))
    Path("ratings.csv").write_text("item,rating\nshapes.mp4,3\nencore.mp4,4\nstill.mp4,1\nvariable.mkv,2\n")
    assert CliRunner().invoke(cli, ["extract", "videos", "demo/videos"]).exit_code == 0  # where the videos are
    return tmp_path


@pytest.mark.once
@pytest.mark.parametrize("page", [page for page in PAGES if command_lines.of_page(text_of(page))])
def test_documented_commands_run_as_typed(page: str, workplace: Path) -> None:
    failed = []
    for words in command_lines.of_page(text_of(page)):
        if is_run(words):
            result = CliRunner().invoke(cli, [os.path.expandvars(word) for word in words])
            if result.exit_code != 0:
                failed.append((" ".join(words), result.stderr or result.exception))
        else:
            command_lines.parse(words)
    assert failed == []


def test_most_commands_are_run() -> None:
    shown = [words for page in PAGES for words in command_lines.of_page(text_of(page))]
    assert len(shown) > 75
    assert sum(map(is_run, shown)) > 50


@pytest.mark.parametrize("page", PAGES)
def test_commands_named_in_sentences_exist(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for line in re.findall(r"`clipcache ([^`…]*)`", prose):
        path = re.match(r"(?:cache )?[a-z]+|", line)
        options = re.findall(r"(?<!\S)--?[a-z][\w-]*", line)
        command: click.Command = cli
        for name in path[0].split() if path else []:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert set(options) <= known, line
