"""Formats of other packages, found through entry points."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from checkout import CHECKOUT
from clipcache.cache.common.errors import UsageError
from clipcache.cache.export import formats
from clipcache.cache.export.formats import FORMATS, Format, find_format
from clipcache.cache.export.rows import Rows
from export_caches import by_name, fill, run_export

PAGE = CHECKOUT / "docs" / "export.md"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Any]], None]:
    """Let what a function gives be found as if a package had registered it."""

    def register(name: str, load: Callable[[], Any]) -> None:
        class Point(metadata.EntryPoint):
            def load(self) -> Any:
                return load()

        monkeypatch.setattr(formats, "entry_points", lambda: [Point(name, f"package:{name}", formats.GROUP)])

    return register


def write_counts(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    (path,) = paths
    path.write_text("".join(f"{rows.name} {len(rows)}\n" for rows in videos))


def test_a_format_of_another_package_is_written_like_our_own(
    tmp_path: Path, register: Callable[[str, Callable[[], Any]], None]
) -> None:
    register("counts", lambda: Format("counts", write_counts))
    output = tmp_path / "counts.txt"
    run_export(fill(tmp_path), "counts", output)
    assert output.read_text() == "a 20\nb 7\nc 33\n"
    record = json.loads((tmp_path / "counts.txt.manifest.jsonl").read_text().splitlines()[0])
    assert record["format"] == "counts"
    assert "3 already there" in run_export(tmp_path / "features", "counts", output).stdout


def test_our_own_formats_come_first(register: Callable[[str, Callable[[], Any]], None]) -> None:
    register("npz", lambda: Format("npz", write_counts))
    assert find_format("npz") is FORMATS["npz"]


def test_an_unknown_format_is_answered_with_all_known(register: Callable[[str, Callable[[], Any]], None]) -> None:
    register("counts", lambda: Format("counts", write_counts))
    with pytest.raises(UsageError, match=r"no export format 'avi'; choose one of numpy, .*, webdataset, counts"):
        find_format("avi")


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        (lambda: 1 / 0, "package:counts cannot be loaded .division by zero"),
        (lambda: write_counts, "package:counts is not a Format with the name 'counts'"),
        (lambda: Format("other", write_counts), "package:counts is not a Format with the name 'counts'"),
    ],
    ids=["raises", "no format", "other name"],
)
def test_what_is_not_a_format_is_refused(
    register: Callable[[str, Callable[[], Any]], None], load: Callable[[], Any], sentence: str
) -> None:
    register("counts", load)
    with pytest.raises(UsageError, match=sentence):
        find_format("counts")


def test_registered_formats_are_those_of_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fake-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[clipcache.export_formats]\ncounts = fake_counts:FORMAT\n")
    (tmp_path / "fake_counts.py").write_text(
        "from clipcache.cache.export.formats import Format\nFORMAT = Format('counts', print)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_format("counts").load() is print


@pytest.mark.skipif(not PAGE.is_file(), reason="the docs lie in the checkout")
def test_the_example_in_the_docs_works(tmp_path: Path, register: Callable[[str, Callable[[], Any]], None]) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### A format of your own")[2]
    (code,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    register("jsonl", lambda: runpy.run_path(str(tmp_path / "example.py"))["FORMAT"])
    cache = fill(tmp_path)
    run_export(cache, "jsonl", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["video"] for line in lines] == ["a"] * 20 + ["b"] * 7 + ["c"] * 33
    entry = by_name(cache)["b"]
    assert [line["timestamp_ms"] for line in lines[20:27]] == entry.timestamps_ms.tolist()
    assert [line["feature"] for line in lines[20:27]] == entry.features.tolist()
