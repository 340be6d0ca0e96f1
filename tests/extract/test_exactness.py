"""Every frame, exactly: each video of the tables, through a run without CLIP and the cache, beside a plain decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clipcache.cache.format.sampling import Sampling
from decoded_runs import decode_as_a_run, decode_plainly
from media import SYNTHETIC
from odd_media import ODD, Odd
from video_files import VideoTruth, has_encoder, make_video

pytestmark = pytest.mark.once

CASES = {case.name: case for case in [*SYNTHETIC, *ODD]}
EXACT = [name for name, case in CASES.items() if not isinstance(case, Odd) or case.expect == "exact"]
DAMAGED = [case.name for case in ODD if case.expect == "damaged"]
REFUSED = [case.name for case in ODD if case.expect == "refused"]
DECODERS = ("auto", "decord", "pyav")

Build = Callable[[str], VideoTruth]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give the video of a case by name; made once."""
    built: dict[str, VideoTruth] = {}

    def make(name: str) -> VideoTruth:
        case = CASES[name]
        if not has_encoder(case.encoder):
            pytest.skip(f"this PyAV has no encoder {case.encoder}")
        if name not in built:
            built[name] = case.build(tmp_path_factory.mktemp(name))
        return built[name]

    return make


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", EXACT)
def test_pictures_order_and_times_are_right(build: Build, name: str, decoder: str) -> None:
    case, truth = CASES[name], build(name)
    decoded = decode_as_a_run(truth.path, decoder)
    entry = decoded.entry
    assert decoded.numbers == tuple(truth.numbers)
    if decoder != "decord":  # whose colours differ beyond 8 bits, for interlaced frames and odd heights
        assert decoded.marks == decode_plainly(truth.path, getattr(case, "options", None))
    assert entry.frame_index.tolist() == list(range(len(truth.numbers)))
    assert (np.diff(entry.timestamps_ms) > 0).all()
    if truth.timestamps_ms:
        np.testing.assert_allclose(
            entry.timestamps_ms, truth.timestamps_ms, rtol=0, atol=1.0 if "doubled" in name else 1e-3
        )
    assert entry.timeline == getattr(case, "timeline", "container")
    assert entry.complete == getattr(case, "complete", True)
    assert entry.frames_expected == len(truth.numbers)
    assert decoded.frames_reported == len(truth.numbers)


@pytest.mark.parametrize("sampling", [Sampling(fps=2), Sampling(fps=0.5), Sampling(every=7)], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_a_sampled_run_is_a_slice_of_a_full_one(build: Build, name: str, sampling: Sampling) -> None:
    path = build(name).path
    full, sampled = decode_as_a_run(path), decode_as_a_run(path, sampling=sampling)
    rows = sampling.indices(full.entry.timestamps_ms)
    assert sampled.entry.frame_index.tolist() == rows.tolist()
    assert sampled.entry.timestamps_ms.tolist() == full.entry.timestamps_ms[rows].tolist()
    assert sampled.marks == [full.marks[row] for row in rows]
    assert sampled.entry.complete == full.entry.complete


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("codec", "suffix"), [("wmv2", ".avi"), ("libx264", ".mp4")])
def test_several_spans_and_frames_far_apart(tmp_path: Path, codec: str, suffix: str, decoder: str) -> None:
    """Spans that nothing is wanted of, whose cuts are proved all the same; pictures of lost attempts in the batcher."""
    truth = make_video(tmp_path / f"long{suffix}", codec=codec, frames=1200, size=(64, 48), options={"g": "25"})
    plain = decode_plainly(truth.path)
    assert decode_as_a_run(truth.path, decoder).marks == plain
    for sampling in (Sampling(every=250), Sampling(every=700)):
        decoded = decode_as_a_run(truth.path, decoder, sampling)
        assert decoded.marks == plain[:: sampling.every]
        assert decoded.entry.complete


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told(build: Build, name: str, decoder: str) -> None:
    truth = build(name)
    decoded = decode_as_a_run(truth.path, decoder)
    assert not decoded.entry.complete
    assert len(decoded.entry.features) <= decoded.entry.frames_expected
    right = sum(number == shown for number, shown in zip(decoded.numbers, truth.numbers, strict=False))
    assert right > 10  # up to the first damage at the least
    assert decoded.entry.timeline == CASES[name].timeline  # type: ignore[union-attr]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_decoded_is_refused(build: Build, name: str) -> None:
    assert "encrypted" in decode_as_a_run(build(name).path).failure


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_only_the_start_of_a_stream_says_reaches_every_frame(test_data: Path, decoder: str) -> None:
    path = test_data / "odd" / "cockatoo.mp4"
    if not path.is_file():
        pytest.skip("the test data lack cockatoo.mp4")
    plain = decode_plainly(path)
    assert len(plain) == 280
    decoded = decode_as_a_run(path, decoder)
    assert decoded.marks == plain
    sampled = decode_as_a_run(path, decoder, Sampling(fps=0.5))
    assert sampled.marks == [plain[row] for row in Sampling(fps=0.5).indices(decoded.entry.timestamps_ms)]


def test_real_videos_are_those_of_a_plain_decode(test_data: Path) -> None:
    for path in sorted((test_data / "videos").iterdir()):
        if path.name == "corrupted.mp4":
            continue
        decoded = decode_as_a_run(path)
        assert decoded.marks == decode_plainly(path), path.name
        assert decoded.entry.complete, path.name
