"""Out and in again, as people do it: the demo's features exported, imported elsewhere, and asked the same question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from clipcache.cli import cli
from demo_library import DemoLibrary


def run(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result.stdout


def answers(cache: Path, **asked: str) -> list[dict[str, Any]]:
    words = [part for name, value in asked.items() for part in (f"--{name}", value)]
    rows = json.loads(run("score", "--cache", cache, "--per-frame", "--format", "json", *words))
    return [{name: row[name] for name in ("frame_index", "timestamp_ms", "cosine", "reference")} for row in rows]


@pytest.mark.parametrize("style", ["numpy", "npz", "webdataset"])
def test_exported_and_imported_features_give_the_same_scores_to_the_last_bit(
    demo_library: DemoLibrary, tmp_path: Path, style: str
) -> None:
    video = demo_library.folder / "shapes.mp4"
    out = tmp_path / "out"
    run("export", video, "--cache", demo_library.cache_dir, "--format", style, "--output", out)
    run("import", out, "--model", "demo", "--cache", tmp_path / "again", "--videos", demo_library.folder)
    for asked in ({"text": "a red circle"}, {"text": "a blue square", "every": "7"}):
        found = answers(tmp_path / "again", **asked)
        everything = json.loads(
            run("score", video, "--cache", demo_library.cache_dir, "--per-frame", "--format", "json",
                *(part for name, value in asked.items() for part in (f"--{name}", value)))
        )  # fmt: skip
        assert len(found) > 40
        assert [row["cosine"] for row in found] == [row["cosine"] for row in everything]
        assert [row["timestamp_ms"] for row in found] == [row["timestamp_ms"] for row in everything]
