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


def answers(video: Path, cache: Path, *asked: str) -> list[dict[str, Any]]:
    rows = json.loads(run("score", video, "--cache", cache, "--per-frame", "--format", "json", *asked))
    kept = ("frame_index", "timestamp_ms", "cosine", "probability", "reference")
    return [{name: row[name] for name in kept if name in row} for row in rows]


STYLES = {
    "numpy": "out",
    "npz": "out",
    "webdataset": "out",
    "torch": "out",
    "h5": "out.h5",
    "h5-nested": "out.h5",
    "parquet": "out.parquet",
    "parquet-videos": "out.parquet",
}


@pytest.mark.parametrize("style", STYLES)
def test_exported_and_imported_features_give_the_same_scores_to_the_last_bit(
    demo_library: DemoLibrary, tmp_path: Path, style: str
) -> None:
    """Probabilities depend on the logit scale, which is not 100 here, and on nothing that is said to the import."""
    video, out = demo_library.folder / "shapes.mp4", tmp_path / STYLES[style]
    run("export", video, "--cache", demo_library.cache_dir, "--format", style, "--output", out)
    run("import", out, "--cache", tmp_path / "again", "--videos", demo_library.folder)
    for asked in (
        ("--text", "a red circle"),
        ("--text", "a blue square", "--every", "7"),
        ("--text", "a red circle", "--text", "a blue square", "--metric", "probability"),
    ):
        found = answers(video, tmp_path / "again", *asked)
        assert len(found) > 40
        assert found == answers(video, demo_library.cache_dir, *asked)
