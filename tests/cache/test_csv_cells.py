"""CSV that a spreadsheet opens without computing it, and that gives every name back."""

from __future__ import annotations

import csv
import io
import random
import re
from pathlib import Path

import clipcache.cache
import numpy as np
import pytest
from clipcache.cache.common.csv_cells import cell_text, safe_cell
from clipcache.cache.common.render import render_rows
from clipcache.score.pairs import read_pairs
from export_caches import run_export
from score_caches import make_video, put

EVIL = [
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\uff1d1+1",
    "'=1",
    "''@x",
    "\x1b[31mred",
    "two\r\nlines",
    "caf\udce9",
    r"\x1b as written",
    r"\x5cx1b",
    "a\u202egnp.exe",
]
PLAIN = [
    "holiday.mp4",
    "it's",
    "'quoted'",
    "a=b",
    r"C:\videos\xmas.mp4",
    "two\nlines",
    r"caf\xe9.mp4",
    "über",
    "a, b",
    "",
]


@pytest.mark.parametrize("text", EVIL)
def test_no_cell_is_a_formula_or_holds_a_control_character(text: str) -> None:
    cell = safe_cell(text)
    assert not re.match("[=+\\-@\t\r\uff1d]", cell)
    assert cell.replace("\n", "").isprintable()
    assert cell != text
    assert cell_text(cell) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert (safe_cell(text), cell_text(text)) == (text, text)


def test_every_text_comes_back() -> None:
    chance = random.Random(0)
    alphabet = "='\\xu05cb2028d8a+-@\t\x1b\u2028\udc80A"
    for _ in range(20_000):
        text = "".join(chance.choices(alphabet, k=chance.randrange(9)))
        assert cell_text(safe_cell(text)) == text


def test_results_as_csv_are_safe_and_numbers_stay_numbers() -> None:
    row = {"video": "=1+1", "prompt": "\x1b]0;x\x07", "score": -0.25, "at": None, "whole": True, "-n": -3}
    text = "".join(render_rows([row], "csv", list(row)))
    assert "\x1b" not in text
    header, cells = csv.reader(io.StringIO(text))
    assert header == ["video", "prompt", "score", "at", "whole", "'-n"]
    assert cells == ["'=1+1", r"\x1b]0;x\x07", "-0.25", "", "True", "-3"]


def test_an_exported_csv_is_safe_and_its_names_are_found_by_pairs(tmp_path: Path) -> None:
    video = make_video(tmp_path, "=1+\x1b1.mp4")
    put(tmp_path / "features", video, np.array([[-1.0, 2.0]]))
    run_export(tmp_path / "features", "csv", tmp_path / "out.csv", "--text", "-x")
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert (row["video"], row["f0"], row["cosine:-x"]) == ("'=1+_1", "-1.0", "0.0")
    pairs = io.StringIO(newline="")
    csv.writer(pairs).writerows([["video", "prompt"], [safe_cell(str(video.name)), safe_cell("-x\ty")]])
    (tmp_path / "pairs.csv").write_text(pairs.getvalue())
    (pair,) = read_pairs(tmp_path / "pairs.csv")
    assert (pair.video, pair.reference) == (video, "-x\ty")


def test_csv_is_written_with_safe_cells_everywhere() -> None:
    """A new place that writes CSV must go through the rule as well."""
    root = Path(clipcache.cache.__file__).resolve().parents[1]
    modules = [path for part in ("cache", "extract", "score", "demo") for path in (root / part).rglob("*.py")]
    writing = {path for path in modules if re.search(r"csv\.(Dict[wW]riter|writer)\(", path.read_text("utf-8"))}
    assert writing
    assert {path.name for path in writing if "safe_cell" not in path.read_text("utf-8")} == set()
