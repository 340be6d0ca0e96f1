"""Which values of attributes an entry may have, and that no import writes others."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import clipcache.cache
import numpy as np
import pytest
from cache_entries import make_attributes, make_features
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import ContentError, UsageError
from clipcache.cache.common.render import render_rows
from clipcache.cache.format.checks import attribute_problem
from clipcache.cache.format.write import write_entry
from clipcache.cache.verify import verify
from clipcache.score.references import read_embeddings
from export_caches import run_import
from score_caches import WEIGHTS

ROOT = Path(clipcache.cache.__file__).resolve().parents[1]
OWN_PROCESSES = {"extract/workers/child.py", "extract/machine/plain_decode.py"}
"""They write JSON for processes of the program itself."""


@pytest.mark.parametrize(
    "changes",
    [
        *({"fps": fps} for fps in (0.0, 0.001, 29.97, 90_000.0)),
        *({"source_kind": kind} for kind in ("video", "image", "image-folder", "audio")),
        *({"sampling": sampling} for sampling in ("all", "fps=0.5", "every=16", "window=5,hop=2.5")),
        *({"rotation": rotation} for rotation in (0, 90, 180, 270)),
        *({"frames_corrupt": count} for count in (-1, 0, 7)),
        {"width": 0, "height": 0, "input_size": 0, "video_bytes": 0, "duration_s": 0.0, "frames_expected": 0},
        {"logit_scale": 10.0, "logit_bias": -12.5},
        {"logit_scale": 1.0, "model": "clap:laion/clap-htsat-unfused"},
    ],
    ids=str,
)
def test_what_extractions_and_imports_write_is_right(changes: dict[str, object]) -> None:
    assert attribute_problem(replace(make_attributes(), **changes)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("fps", "duration_s", "logit_scale") for value in (np.nan, np.inf, -1.0, 1e300)),
        *((name, -1) for name in ("video_bytes", "width", "height", "frames_expected", "embed_dim", "input_size")),
        *((name, "") for name in ("source_kind", "model", "sampling", "video_sha256", "weights_sha256")),
        *(("sampling", text) for text in ("junk", "fps=0", "every=1.5", "fps=2\n")),
        *(("rotation", 213), ("frames_decoded", 0), ("frames_corrupt", -2), ("logit_scale", 0.0), ("fps", 5e-324)),
        *(("video_sha256", "AB" * 32), ("weights_sha256", "ab" * 31)),
        *(("logit_bias", value) for value in (np.nan, np.inf, -np.inf, 1e300)),
    ],
)
def test_what_cannot_be_is_named_and_not_written(tmp_path: Path, name: str, value: object) -> None:
    attributes = replace(make_attributes(), **{name: value})
    assert f"the {name} " in str(attribute_problem(attributes))
    with pytest.raises(ContentError, match=f"the {name} ") as caught:
        write_entry(tmp_path, attributes, make_features(), np.arange(50.0), np.arange(50))
    assert "check the disk" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", ["nan", "inf", "0", "-1"])
def test_an_import_refuses_a_logit_scale_that_is_none(tmp_path: Path, scale: str) -> None:
    np.savez(tmp_path / "a.npz", features=np.ones((2, 4), np.float32))
    words = ("--model", "x", "--weights-sha256", WEIGHTS, "--logit-scale", scale, tmp_path)
    result = run_import(tmp_path / "cache", *words)
    assert result.exit_code == 2
    assert "'--logit-scale'" in result.stderr


def test_an_import_writes_no_entry_that_no_command_would_read(tmp_path: Path) -> None:
    rows = np.ones((2, 4), np.float32)
    np.savez(tmp_path / "odd.npz", features=rows, timestamps_ms=np.arange(2.0), fps=np.array(1e300))
    np.savez(tmp_path / "good.npz", features=rows, timestamps_ms=np.arange(2.0))
    result = run_import(tmp_path / "cache", "--model", "x", "--weights-sha256", WEIGHTS, tmp_path)
    assert "1 videos imported" in result.stdout
    assert "the fps 1e+300" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize("value", [0, 1e6, -3e38, np.nan, np.inf])
def test_an_import_writes_no_features_that_verify_calls_bad(tmp_path: Path, value: float) -> None:
    rows = np.ones((3, 4), np.float32)
    np.savez(tmp_path / "good.npz", features=rows, timestamps_ms=np.arange(3.0))
    rows[1] = value
    np.savez(tmp_path / "odd.npz", features=rows, timestamps_ms=np.arange(3.0))
    result = run_import(tmp_path / "cache", "--model", "x", "--weights-sha256", WEIGHTS, tmp_path)
    assert "1 videos imported" in result.stdout
    assert "odd.npz' holds for 'odd' features that " in result.stderr
    assert [finding.problem for finding in verify(FeatureCache(tmp_path / "cache"))] == [None]


def test_embeddings_without_a_direction_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([[1, 0], [0, 0]], np.float32))
    with pytest.raises(UsageError, match="row of zeros"):
        read_embeddings(tmp_path / "rows.npy", 2)


def test_rows_hold_no_word_for_what_is_no_number() -> None:
    rows = [{"a": float("nan"), "b": 1.0}, {"a": float("-inf"), "b": 2.0}]
    assert json.loads("".join(render_rows(rows, "json", ["a", "b"]))) == [{"a": None, "b": 1}, {"a": None, "b": 2}]
    assert "".join(render_rows(rows, "csv", ["a", "b"])) == "a,b\n,1.0\n,2.0\n"
    assert "nan" not in "".join(render_rows(rows, "table", ["a", "b"]))


def test_no_json_that_is_written_may_hold_nan() -> None:
    """Python writes NaN and Infinity, which are not JSON, unless it is told not to."""
    seen = 0
    for path in (path for part in ("cache", "demo", "extract", "score") for path in (ROOT / part).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in OWN_PROCESSES or name.startswith("demo/training/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("allow_nan") == "False", f"{name}, line {node.lineno}"
                seen += 1
    assert seen > 10
