"""The rows of others' features against the frames of the video that was hashed for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.format.sampling import Sampling
from export_caches import DIM, FRAMES_OF, Frames, make_frames, run_import
from score_caches import make_video
from test_import_run import B32, triple

TIMES = np.arange(450) * 40.0 + 1400  # 18 s, on a clock that does not start at 0


@pytest.fixture(autouse=True)
def _video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path, "clip.mp4")
    monkeypatch.setitem(FRAMES_OF, "clip.mp4", make_frames(450, 25.0, 1400.0))


def features(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, DIM)).astype(np.float32)


def put_npz(tmp_path: Path, count: int, **more: np.ndarray) -> Path:
    np.savez(tmp_path / "clip.npz", features=features(count), **more)
    return tmp_path / "clip.npz"


def imported(tmp_path: Path, path: Path, *more: object) -> Entry:
    result = run_import(tmp_path / "cache", path, *B32, *more)
    assert result.exit_code == 0, result.stderr
    (entry,) = FeatureCache(tmp_path / "cache")
    return entry


@pytest.mark.parametrize(
    ("count", "step_ms", "sentence"),
    [
        (5000, 3.6, "holds 5000 rows for 'clip', which has 450 frames"),
        (70, 1000.0, "rows that cover 70.00 s, and the video lasts 18.00 s"),
        (45, 40.0, "rows that cover 1.80 s, and the video lasts 18.00 s"),
        (1, 40.0, "rows that cover 0.04 s, and the video lasts 18.00 s"),
    ],
)
def test_rows_that_are_not_of_the_video_are_refused(tmp_path: Path, count: int, step_ms: float, sentence: str) -> None:
    path = triple(tmp_path, features=features(count), times=np.arange(count) * step_ms)
    result = run_import(tmp_path / "cache", path, *B32)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not list((tmp_path / "cache").rglob("*.h5"))
    assert len(imported(tmp_path, path, "--unchecked")) == count


@pytest.mark.parametrize("rate", [0.5, 2, 5])
def test_a_rate_that_is_not_that_of_the_rows_is_refused(tmp_path: Path, rate: float) -> None:
    result = run_import(tmp_path / "cache", put_npz(tmp_path, 18), *B32, "--fps", rate)
    assert (result.exit_code, "holds 18 rows for 'clip', where fps=" in result.stderr) == (1, True)
    assert imported(tmp_path, tmp_path / "clip.npz", *B32, "--fps", 1).sampling == "fps=1"


def test_a_position_that_the_video_does_not_have_is_refused(tmp_path: Path) -> None:
    index = np.append(np.arange(449), 450)
    path = put_npz(tmp_path, 450, timestamps_ms=TIMES, frame_index=index)
    assert "a frame 450, and the video has 450" in run_import(tmp_path / "cache", path, *B32).stderr


@pytest.mark.parametrize("rate", [0.5, 1, 5, 12.5])
def test_rows_without_times_get_those_of_the_frames(tmp_path: Path, rate: float) -> None:
    rows = Sampling(fps=rate).indices(TIMES)
    entry = imported(tmp_path, put_npz(tmp_path, len(rows)), "--fps", rate)
    assert entry.frame_index.tolist() == rows.tolist()
    assert entry.timestamps_ms.tolist() == TIMES[rows].tolist()
    assert (entry.fps, entry.frames_expected, entry.width, entry.complete) == (25.0, 450, 320, True)
    assert (entry.codec, entry.timeline, entry.duration_s) == ("h264", "container", pytest.approx(18.0))


def test_an_interval_between_thousandths_gives_the_frames_of_the_interval(tmp_path: Path) -> None:
    entry = imported(tmp_path, put_npz(tmp_path, 12), "--interval", 1.5)
    assert entry.timestamps_ms.tolist() == [1400 + 1000 * np.ceil(1.5 * row * 25) / 25 for row in range(12)]


def test_one_row_more_than_ours_is_put_to_the_nearest_frames(tmp_path: Path) -> None:
    entry = imported(tmp_path, put_npz(tmp_path, 19), "--fps", 1)
    assert (len(entry), entry.sampling, entry.frame_index.tolist()[:3]) == (19, "fps=1", [0, 25, 50])
    assert entry.frame_index[-1] == 449


@pytest.mark.parametrize(
    ("rows", "sampling"),
    [
        (np.arange(450), "all"),
        (np.arange(448), "all"),  # the last two lost
        (np.arange(0, 450, 25), "fps=1"),
        (np.arange(0, 450, 50), "fps=0.5"),
        (np.arange(0, 450, 5), "fps=5"),
        (np.arange(0, 450, 16), "every=16"),
        (Sampling(fps=2).indices(TIMES), "fps=2"),
        (Sampling(fps=3.7).indices(TIMES), "fps=3.7"),
        (np.arange(12, 450, 25), "fps=1"),  # the middle of each second
    ],
)
@pytest.mark.parametrize("from_zero", [False, True])
def test_the_sampling_is_inferred_from_the_times(
    tmp_path: Path, rows: np.ndarray, sampling: str, from_zero: bool
) -> None:
    times = TIMES[rows] - (1400 if from_zero and rows[0] == 0 else 0)
    path = triple(tmp_path, features=features(len(rows)), times=times)
    result = run_import(tmp_path / "cache", path, *B32)
    assert result.exit_code == 0, result.stderr
    (entry,) = FeatureCache(tmp_path / "cache")
    assert (entry.sampling, entry.frame_index.tolist()) == (sampling, rows.tolist())
    assert entry.timestamps_ms.tolist() == TIMES[rows].tolist()
    assert entry.complete is (len(rows) != 448)
    if sampling != "all":
        assert f"taken for the frames of {sampling}, compared with the video" in result.stderr


def test_frames_of_no_sampling_must_be_named(tmp_path: Path) -> None:
    rows = np.sort(np.random.default_rng(0).choice(450, 100, replace=False))
    rows[[0, -1]] = 0, 449
    path = put_npz(tmp_path, 100, timestamps_ms=TIMES[rows], frame_index=rows)
    assert "say which: --sampling" in run_import(tmp_path / "cache", path, *B32).stderr
    assert not imported(tmp_path, path, "--sampling", "all").complete


@pytest.mark.parametrize(
    ("step_ms", "sampling"), [(40.0, "all"), (100.0, "all"), (200.0, "fps=5"), (1000.0, "fps=1"), (2000.0, "fps=0.5")]
)
def test_without_the_video_few_rows_a_second_are_not_all_frames(tmp_path: Path, step_ms: float, sampling: str) -> None:
    path = triple(tmp_path / "elsewhere", "unseen", features(20), np.arange(20) * step_ms)
    assert imported(tmp_path, path).sampling == sampling


def test_a_video_that_cannot_be_demuxed_is_said_and_its_features_imported(tmp_path: Path) -> None:
    make_video(tmp_path, "broken.mp4")
    path = triple(tmp_path, "broken", features(5))
    result = run_import(tmp_path / "cache", path, *B32)
    assert (result.exit_code, "Not compared with its video: broken.mp4 is not a video" in result.stderr) == (0, True)


def test_a_video_whose_times_only_decoding_tells_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FRAMES_OF, "clip.mp4", Frames(None, 4, 25.0))
    path = triple(tmp_path, features=features(5))
    assert "holds 5 rows for 'clip', which has 4 frames" in run_import(tmp_path / "cache", path, *B32).stderr


def test_a_real_video_is_demuxed(test_data: Path, tmp_path: Path) -> None:
    """Through the program itself: 5,000 rows for a video of 355 frames."""
    from click.testing import CliRunner
    from clipcache.cli import cli

    np.savez(tmp_path / "v_GGSY1Qvo990.npz", features=np.ones((5000, 512), np.float16))
    words = ["import", tmp_path, "--videos", test_data / "videos", "--cache", tmp_path / "cache", *B32, "--fps", 25]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert (result.exit_code, "holds 5000 rows for 'v_GGSY1Qvo990', which has 355 frames" in result.stderr) == (1, True)


WRONG = "where its time is"


@pytest.mark.parametrize(
    ("index", "more", "sentence"),
    [
        (np.arange(36), ("--fps", 2), WRONG),
        (np.arange(36), ("--fps", 2, "--sampling", "every=13"), WRONG),
        (np.floor(np.arange(36) * 12.5), ("--fps", 2), None),  # within a row of ours
        (Sampling(fps=2).indices(TIMES), ("--fps", 2), None),
        (np.arange(37), ("--fps", 2), WRONG),  # one row more than ours
        (np.arange(36) - 1, ("--fps", 2), "a frame -1, and the video has 450"),
        (np.arange(36) * 13 - 5, ("--fps", 2), "a frame -5, and the video has 450"),
        (np.arange(36) * 13, ("--fps", 2), "a frame 455, and the video has 450"),
    ],
)
@pytest.mark.parametrize("with_times", [False, True])
def test_positions_must_be_those_of_the_times(
    tmp_path: Path, index: np.ndarray, more: tuple[object, ...], sentence: str | None, with_times: bool
) -> None:
    times = {"timestamps_ms": np.arange(len(index)) * 500.0} if with_times else {}
    path = put_npz(tmp_path, len(index), frame_index=index, **times)
    if sentence is None:
        entry = imported(tmp_path, path, *more)
        assert entry.frame_index.tolist() == index.tolist()
    else:
        result = run_import(tmp_path / "cache", path, *B32, *more)
        assert (result.exit_code, sentence in result.stderr) == (1, True), result.stderr


@pytest.mark.parametrize("first", [0, 2, 12])
def test_times_from_zero_begin_at_the_position_of_the_first_row(tmp_path: Path, first: int) -> None:
    index = np.arange(first, 450)
    path = put_npz(tmp_path, len(index), frame_index=index, timestamps_ms=np.arange(len(index)) * 40.0)
    entry = imported(tmp_path, path, "--sampling", "all")
    assert entry.timestamps_ms.tolist() == TIMES[first:].tolist()
