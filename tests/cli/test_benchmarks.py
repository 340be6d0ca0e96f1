"""The benchmark's own arithmetic, and its runner at toy sizes; what it measures is not looked at here."""

from __future__ import annotations

import itertools
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import CHECKOUT

if not (CHECKOUT / "benchmarks" / "run.py").is_file():
    pytest.skip("benchmarks/ lies in the checkout", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Any:
    """`benchmarks` is a folder of the checkout, not an installed package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKOUT)
        yield
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def test_sides_alternate() -> None:
    from benchmarks.timing import alternate

    order: list[str] = []
    sides = {name: lambda name=name: float(order.append(name) or 1) for name in "AB"}
    assert alternate(sides, 3).count == 3
    assert "".join(order) == "ABABAB"


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    from benchmarks.timing import Rounds

    rounds = Rounds({"A": [10.0, 100.0, 9.0], "B": [5.0, 10.0, 3.0]})  # ratios 2, 10, 3; of the medians: 2
    assert rounds.ratio("A", "B") == 3.0
    assert (rounds.median("A"), rounds.median("B")) == (10.0, 5.0)
    assert rounds.ratio_to("A", lambda one: 2 * one["B"]) == 1.5
    assert rounds.median_of(lambda one: one["A"] + one["B"]) == 15.0


def test_targets_are_held_against_ratio_or_value() -> None:
    from benchmarks.report import Row, Target

    assert Row("", 1.0, "s", 0.9, Target(">=", 0.9)).met == "yes"
    assert Row("", 1.0, "s", 0.89, Target(">=", 0.9)).met == "no"
    assert Row("", 5.1, "s", 0.1, Target("<=", 5.0, of_value=True)).met == "no"
    assert Row("", 0.0, "", None, Target("<=", 0.0, of_value=True)).met == "yes"
    assert Row("", 1.0).met == ""


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234567.0, 3, "1,234,567"), (99.94, 3, "99.9"), (0.01234, 3, "0.0123"), (0.9999527, 7, "0.9999527")],
)
def test_numbers_are_short(value: float, digits: int, text: str) -> None:
    from benchmarks.report import number

    assert number(value, digits) == text


def test_work_of_a_frame_is_that_of_the_architecture() -> None:
    from benchmarks.encoding import shape_of

    shape = shape_of("ViT-B/32")
    assert (shape.tokens, shape.width, shape.layers) == (50, 768, 12)
    # In GFLOP: 8.49 in the products of the layers, 0.23 in the patches, 0.09 in attention.
    assert shape.frame_flop == pytest.approx(8.82e9, rel=0.001)


def test_ceilings() -> None:
    from benchmarks.end_to_end import own_ceiling, shared_ceiling

    one = {"resize": 300.0, "encode": 100.0}
    # On two cores: 2/300 + 2/100 core-seconds a frame, of which there are two a second.
    assert shared_ceiling(one) == pytest.approx(2 / (2 / 300 + 2 / 100))
    assert own_ceiling(one) == 100.0


def test_lowest_cosine() -> None:
    from benchmarks.baselines import lowest_cosine

    a, b = np.array([[1.0, 0.0], [3.0, 4.0], [9.0, 9.0]]), np.array([[2.0, 0.0], [5.0, 0.0]])
    assert lowest_cosine(a, b) == pytest.approx(0.6)


def test_repeated_frames_are_identical(tmp_path: Path) -> None:
    import av

    from benchmarks import videos

    kind = videos.Kind(64, 48, frames=30, repeats=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(videos.KINDS, "repeats", kind)
        path = videos.make_video(tmp_path, "repeats", 2)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    same = [np.array_equal(a, b) for a, b in itertools.pairwise(frames)]
    assert len(frames) == 60
    assert same == [number % 2 == 0 for number in range(59)]


def test_clips_differ_in_bytes_alone(tmp_path: Path) -> None:
    from benchmarks import videos

    first, second = videos.make_clips(tmp_path, "toy", 2)
    assert first.read_bytes() != second.read_bytes()


def test_runner_makes_a_table_and_keeps_what_people_wrote(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import context, run

    monkeypatch.setattr(context, "usable_cores", lambda: 1)  # a process for each would be started
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(tiny_weights, data / "random-tiny.safetensors")
    sizes = replace(context.QUICK, rounds=1, skipped_videos=3, resolutions=("toy",), run_seconds=0.01, seconds=0.05)
    report = run.run(sizes, ["skip_path", "end_to_end"], "toy", data, model="tiny")
    assert [section.title.split(".")[0] for section in report.sections] == ["2", "5"]
    whole, skipped = report.sections
    assert all(row.value is None or row.value >= 0 for section in report.sections for row in section.rows)
    assert any(row.what.startswith("extract, toy, ") and row.ratio for row in whole.rows)
    assert next(row for row in skipped.rows if row.what.startswith("HDF5 files opened")).met == "yes"
    assert "| extract --dry-run, 3 cached files |" in capsys.readouterr().out

    path = tmp_path / "RESULTS.md"
    path.write_text(f"old\n{run.BY_HAND}\nnoted\n")
    run.write(report, path)
    text = path.read_text()
    assert text.startswith("# Measured")
    assert "| what | value | ratio | target | met | runs |" in text
    assert "torch " in text
    assert "old" not in text
    assert text.endswith("noted\n")
