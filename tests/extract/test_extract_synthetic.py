"""Every healthy video of `media.SYNTHETIC`, from file to entry: no frame lost, doubled, moved, turned or grey."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from barcode import read_barcode
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.verify import verify
from clipcache.extract import ExtractOptions, extract
from clipcache.extract.progress import Summary
from clipcache.extract.video import segments as segments_module
from clipcache.extract.video.collector import FrameCollector
from clipcache.extract.video.decode import Span, decode_span, decode_whole
from clipcache.extract.video.delivery import DecodeReport
from clipcache.extract.video.index import VideoIndex, read_index
from media import SYNTHETIC, has_encoder
from video_files import VideoTruth, make_video

pytestmark = pytest.mark.once

CASES = [pytest.param(case.name, id=case.name) for case in SYNTHETIC]
# Cases that decord must be able to decode alone: a change that sends everything to PyAV would otherwise go unnoticed.
DECORD_CASES = (
    "h264_closed_gop",
    "h264_open_gop",
    "hevc_open_gop",
    "av1",
    "ts_offset",
    "edit_list",
    "rotated_90",
)


@dataclass
class FrameList:
    """A `FrameSink` that keeps what it is given; what is rolled back is forgotten."""

    rows: list[int] = field(default_factory=list)
    timestamps_ms: list[float] = field(default_factory=list)
    pictures: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    committed: int = 0

    def add(self, row: int, timestamp_ms: float, rgb: npt.NDArray[np.uint8]) -> None:
        self.rows.append(row)
        self.timestamps_ms.append(timestamp_ms)
        self.pictures.append(rgb.copy())

    def commit(self) -> None:
        self.committed = len(self.rows)

    def beat(self) -> None:
        pass

    def rollback(self) -> None:
        for kept in (self.rows, self.timestamps_ms, self.pictures):
            del kept[self.committed :]

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(read_barcode(picture) for picture in self.pictures)


def decode(path: Path, video: VideoIndex, span: Span, decoder: str) -> tuple[FrameList, DecodeReport]:
    frames = FrameList()
    if not video.segments:
        return frames, decode_whole(path, video, frames)
    return frames, decode_span(path, video, span, frames, decoder=decoder)


def whole(video: VideoIndex) -> Span:
    return Span(0, len(video.segments))


@dataclass(frozen=True)
class Extracted:
    """The outcome of one run over all cases.

    Attributes:
        truths: Of each case, by the name of its file.
        entries: Of each case, by the name of its file.
        summary: Of the run.
        cache_dir: The cache.
    """

    truths: dict[str, VideoTruth]
    entries: dict[str, Entry]
    summary: Summary
    cache_dir: Path


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Extracted:
    folder, cache_dir = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("cache")
    cases = [case for case in SYNTHETIC if has_encoder(case.encoder)]
    truths = {truth.path.name: truth for truth in (case.build(folder) for case in cases)}
    options = ExtractOptions(model="tiny", weights=tiny_weights, device="cpu", num_workers=2)
    summary = extract([folder], cache_dir, options)
    entries = {entry.video_name: entry for entry in FeatureCache(cache_dir)}
    return Extracted(truths, entries, summary, cache_dir)


@pytest.mark.parametrize("name", CASES)
def test_entry_has_each_frame_at_its_time(extracted: Extracted, name: str) -> None:
    found = [(truth, file) for file, truth in extracted.truths.items() if Path(file).stem == name]
    if not found:
        pytest.skip("this PyAV cannot write it")
    truth, file = found[0]
    entry = extracted.entries[file]
    assert entry.complete
    assert (entry.frames_expected, entry.frames_decoded, len(entry)) == (len(truth.numbers),) * 3
    np.testing.assert_array_equal(entry.frame_index, np.arange(len(truth.numbers)))
    np.testing.assert_allclose(entry.timestamps_ms, truth.timestamps_ms, rtol=0, atol=1e-6)
    assert (entry.width, entry.height) == (truth.width, truth.height)
    assert entry.features.shape == (len(truth.numbers), 512)


def test_run_counts_what_it_did(extracted: Extracted) -> None:
    summary, truths = extracted.summary, extracted.truths.values()
    assert (summary.extracted, summary.partial, summary.failed, summary.cached) == (len(truths), 0, 0, 0)
    assert summary.frames == sum(len(truth.numbers) for truth in truths)
    assert all(finding.problem is None for finding in verify(FeatureCache(extracted.cache_dir)))


def test_repeated_frames_are_encoded_once_and_have_equal_features(extracted: Extracted) -> None:
    truth, entry = extracted.truths["repeated.mp4"], extracted.entries["repeated.mp4"]
    features = np.asarray(entry.features)
    same = [bool(np.array_equal(features[i], features[i + 1])) for i in range(len(features) - 1)]
    assert same == [a == b for a, b in zip(truth.numbers, truth.numbers[1:], strict=False)]
    # Only this video repeats frames bit for bit; a lossy coder may do so too, hence an upper limit.
    repeats = len(truth.numbers) - len(set(truth.numbers))
    assert extracted.summary.encoded <= extracted.summary.frames - repeats


@pytest.mark.parametrize("decoder", ["auto", "decord", "pyav"])
@pytest.mark.parametrize("name", CASES)
def test_decoded_frames_show_the_right_numbers(
    synthetic_video: Callable[[str], VideoTruth], name: str, decoder: str
) -> None:
    truth = synthetic_video(name)
    video = read_index(truth.path)
    frames, report = decode(truth.path, video, whole(video), decoder)
    assert frames.numbers == truth.numbers
    assert frames.rows == list(range(len(truth.numbers)))
    np.testing.assert_allclose(frames.timestamps_ms, truth.timestamps_ms, rtol=0, atol=1e-6)
    assert {picture.shape for picture in frames.pictures} == {(truth.height, truth.width, 3)}
    assert report.errors == 0
    if name in DECORD_CASES:
        assert report.decoders == ({"pyav"} if decoder == "pyav" else {"decord"})


@pytest.mark.parametrize("name", CASES)
def test_each_segment_alone_gives_its_frames_bit_for_bit(
    synthetic_video: Callable[[str], VideoTruth], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    truth = synthetic_video(name)
    plain, _ = decode(truth.path, one_span := read_index(truth.path), whole(one_span), "pyav")
    monkeypatch.setattr(segments_module, "GOP_FRAMES", 1)  # a cut at every keyframe
    video = read_index(truth.path)
    for decoder in ("auto", "pyav"):
        parts = [decode(truth.path, video, Span(k, k + 1), decoder) for k in range(len(video.segments))]
        assert [row for part, _ in parts for row in part.rows] == plain.rows
        pictures = [picture for part, _ in parts for picture in part.pictures]
        differ = [
            row for row, (a, b) in enumerate(zip(pictures, plain.pictures, strict=True)) if not np.array_equal(a, b)
        ]
        assert differ == [], f"{decoder}: rows that differ from a plain reading"
        assert sum(report.errors for _, report in parts) == 0


def test_videos_really_are_cut_at_every_keyframe(
    synthetic_video: Callable[[str], VideoTruth], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above would compare one segment with itself."""
    monkeypatch.setattr(segments_module, "GOP_FRAMES", 1)
    for name, segments in (("h264_closed_gop", 4), ("h264_open_gop", 4), ("mpeg2_ts", 4), ("mjpeg", 48)):
        assert len(read_index(synthetic_video(name).path).segments) >= segments, name


def test_frames_that_nobody_wants_show_that_work_goes_on(synthetic_video: Callable[[str], VideoTruth]) -> None:
    """Else a worker that decodes a long group of pictures for the sake of one would be taken for hung."""
    truth = synthetic_video("long_gop")
    video, beats = read_index(truth.path), 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    wanted = np.arange(len(truth.numbers)) == len(truth.numbers) - 1
    sink = FrameCollector(lambda rgb: rgb, lambda pictures: None, 55, beat)
    decode_span(truth.path, video, whole(video), sink, wanted=wanted)
    assert list(sink.finish().rows) == [len(truth.numbers) - 1]
    assert beats >= len(truth.numbers)


@pytest.mark.parametrize("width", [32, 48, 96, 144])
def test_narrow_video_has_three_channels(width: int, tmp_path: Path) -> None:
    """decord2 3.4 takes the padding of rows of these widths for further channels."""
    truth = make_video(tmp_path / "narrow.mp4", frames=5, size=(width, 64))
    video = read_index(truth.path)
    frames, _ = decode(truth.path, video, whole(video), "decord")
    assert {picture.shape for picture in frames.pictures} == {(64, width, 3)}
    plain, _ = decode(truth.path, video, whole(video), "pyav")
    assert np.array_equal(np.stack(frames.pictures), np.stack(plain.pictures))
    assert frames.rows == list(range(5))


@pytest.mark.parametrize("name", ["h264_closed_gop", "h264_open_gop", "long_gop", "edit_list", "vp8"])
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_only_the_wanted_rows_are_delivered(
    synthetic_video: Callable[[str], VideoTruth], monkeypatch: pytest.MonkeyPatch, name: str, decoder: str
) -> None:
    truth = synthetic_video(name)
    video = read_index(truth.path)
    wanted = np.zeros(len(truth.numbers), bool)
    wanted[[1, 20, len(truth.numbers) - 1]] = True
    frames = FrameList()
    decode_span(truth.path, video, whole(video), frames, decoder=decoder, wanted=wanted)
    assert frames.rows == list(np.flatnonzero(wanted))
    assert frames.numbers == tuple(np.array(truth.numbers)[wanted])
