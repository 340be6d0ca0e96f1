"""The odd videos are what they say they are: a plain forward decode gives the truth, or shows the damage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from barcode import BarcodeError, read_barcode
from odd_media import ODD, Odd
from video_files import VideoTruth, has_encoder

pytestmark = pytest.mark.once

CASES = {case.name: case for case in ODD}


@dataclass
class Plain:
    """What a plain forward decode gives, in the decoder's output order; None for an unreadable picture."""

    numbers: list[int | None] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    packets: list[Any] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    time_base: Any = None
    errors: int = 0
    corrupt: int = 0

    @property
    def sorted_ms(self) -> list[float]:
        """Times of the frames in milliseconds, sorted."""
        return [float(pts * self.time_base * 1000) for pts in sorted(self.pts)]


def decode_plainly(path: Path, options: Mapping[str, str] = {}) -> Plain:
    plain = Plain()
    with av.open(str(path), options=dict(options)) as source:
        stream = source.streams.video[0]
        plain.time_base = stream.time_base
        for packet in source.demux(stream):
            if packet.size:
                plain.packets.append(packet)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                plain.errors += 1
                continue
            for frame in frames:
                _note(plain, frame)
    return plain


def _note(plain: Plain, frame: Any) -> None:
    try:
        plain.numbers.append(read_barcode(frame.to_ndarray(format="rgb24")))
    except BarcodeError:
        plain.numbers.append(None)
    plain.sizes.append((frame.width, frame.height))
    plain.pts.append(frame.pts)
    plain.corrupt += frame.is_corrupt


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the truth and the plain decode of a case by name, making both once."""
    made: dict[str, tuple[VideoTruth, Plain]] = {}

    def give(name: str) -> tuple[VideoTruth, Plain]:
        if name not in made:
            case = CASES[name]
            if not has_encoder(case.encoder):
                pytest.skip(f"this PyAV has no encoder {case.encoder}")
            truth = case.build(tmp_path_factory.mktemp(name))
            made[name] = truth, decode_plainly(truth.path, case.options)
        return made[name]

    return give


def _named(*beginnings: str) -> list[str]:
    return [name for name in CASES if name.startswith(beginnings)]


def test_names_are_unique_and_fields_known() -> None:
    assert len(CASES) == len(ODD)
    assert {case.expect for case in ODD} <= {"exact", "refused", "damaged"}
    assert {case.timeline for case in ODD} <= {
        "container",
        "doubled times parted",
        "restarts joined",
        "from frame rate",
    }


@pytest.mark.parametrize("case", [c for c in ODD if c.expect != "damaged"], ids=lambda case: case.name)
def test_plain_decode_gives_the_truth(case: Odd, odd: Any) -> None:
    truth, plain = odd(case.name)
    assert tuple(plain.numbers) == truth.numbers
    assert (plain.errors, plain.corrupt) == (0, 0)
    assert (truth.width, truth.height) in plain.sizes
    if truth.timestamps_ms:
        assert len(truth.timestamps_ms) == len(truth.numbers)


@pytest.mark.parametrize("case", [c for c in ODD if c.expect == "damaged"], ids=lambda case: case.name)
def test_damage_shows_in_a_plain_decode(case: Odd, odd: Any) -> None:
    """By packets that fail, packets or frames that are flagged, or missing frames; else nobody could notice."""
    truth, plain = odd(case.name)
    assert tuple(plain.numbers) != truth.numbers
    assert plain.numbers[:10] == list(truth.numbers[:10])
    flagged = plain.corrupt + sum(packet.is_corrupt for packet in plain.packets)
    assert plain.errors + flagged > 0 or len(plain.numbers) < len(plain.packets)
    assert not case.complete


@pytest.mark.parametrize(
    "case",
    [c for c in ODD if c.expect != "damaged" and c.timeline in ("container", "doubled times parted")],
    ids=lambda case: case.name,
)
def test_container_tells_the_times(case: Odd, odd: Any) -> None:
    truth, plain = odd(case.name)
    assert truth.timestamps_ms
    np.testing.assert_allclose(plain.sorted_ms, truth.timestamps_ms, rtol=0, atol=1e-6)
    doubled = len(set(truth.timestamps_ms)) < len(truth.timestamps_ms)
    assert doubled == (case.timeline == "doubled times parted")


@pytest.mark.parametrize("case", [c for c in ODD if c.timeline == "restarts joined"], ids=lambda case: case.name)
def test_clock_falls_back_once(case: Odd, odd: Any) -> None:
    """The truth takes the first part's times and continues them; the container's go back."""
    truth, plain = odd(case.name)
    times = [float(pts * plain.time_base * 1000) for pts in plain.pts]
    assert sum(later <= earlier for earlier, later in pairwise(times)) == 1
    np.testing.assert_allclose(times[:100], truth.timestamps_ms[:100], rtol=0, atol=1e-6)
    assert all(later > earlier for earlier, later in pairwise(truth.timestamps_ms))


@pytest.mark.parametrize("case", [c for c in ODD if c.timeline == "from frame rate"], ids=lambda case: case.name)
def test_times_are_missing(case: Odd, odd: Any) -> None:
    truth, plain = odd(case.name)
    if case.name.startswith("stopped_"):
        assert set(plain.pts) == {0}
    elif case.name.startswith("lossy_"):
        assert None in plain.pts[1:]
    else:
        assert plain.pts[0] is None
        assert (set(plain.pts) == {None}) == bool(truth.timestamps_ms)


@pytest.mark.parametrize("name", _named("resized_"))
def test_size_changes(name: str, odd: Any) -> None:
    _, plain = odd(name)
    assert len(set(plain.sizes)) > 1
    assert not CASES[name].sizes or tuple(plain.sizes) == CASES[name].sizes


@pytest.mark.parametrize("name", sorted({*_named("unindexed_", "no_stss_")} - {"unindexed_mpeg4", "no_stss_h264"}))
def test_every_packet_is_called_a_keyframe(name: str, odd: Any) -> None:
    _, plain = odd(name)
    assert all(packet.is_keyframe for packet in plain.packets)
    assert max(packet.size for packet in plain.packets) > 2 * min(packet.size for packet in plain.packets)


@pytest.mark.parametrize("name", _named("no_ctts", "decode_order_"))
def test_times_are_in_decode_order(name: str, odd: Any) -> None:
    """Then the times of the pictures, in the order in which they are shown, go back and forth."""
    _, plain = odd(name)
    assert [packet.pts for packet in plain.packets] == sorted(packet.pts for packet in plain.packets)
    assert plain.pts != sorted(plain.pts)


def test_encrypted_is_garbage_without_its_key(odd: Any) -> None:
    truth, _ = odd("encrypted_mp4")
    plain = decode_plainly(truth.path)
    assert plain.errors > 100
    assert sum(a == b for a, b in zip(plain.numbers, truth.numbers, strict=False)) == 0


@pytest.mark.parametrize("name", _named("piped_"))
def test_written_to_a_pipe_promises_a_billion_frames(name: str, odd: Any) -> None:
    with av.open(str(odd(name)[0].path)) as source:
        assert source.streams.video[0].frames > 10**9


@pytest.mark.parametrize("name", _named("hidden_vp8"))
def test_hidden_packets_show_nothing(name: str, odd: Any) -> None:
    _, plain = odd(name)
    assert (len(plain.packets), len(plain.numbers)) == (200, 190)
