"""The synthetic videos are what they say they are; every other decoding test rests on this."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media import (
    BAD,
    SYNTHETIC,
    BadFile,
    BadInput,
    BarcodeError,
    VideoTruth,
    draw_barcode,
    read_barcode,
    read_video,
)

PLAYLISTS = {"hls": "neighbour.ts", "ffconcat": "n.mp4"}


@pytest.mark.parametrize("size", [(36, 24), (64, 48), (321, 241), (1920, 1080)])
def test_barcode_reads_back(size: tuple[int, int]) -> None:
    numbers = [0, 1, 2, 63, 64, 1000, 5461, 10922, 16382, 16383]
    assert [read_barcode(draw_barcode(number, *size)) for number in numbers] == numbers


def test_barcode_every_number_is_distinct() -> None:
    pictures = {draw_barcode(number, 6, 4).tobytes() for number in range(2**14)}
    assert len(pictures) == 2**14


@pytest.mark.parametrize("number", [-1, 2**14])
def test_barcode_out_of_range(number: int) -> None:
    with pytest.raises(ValueError, match="holds 0 to 16383"):
        draw_barcode(number, 64, 48)


def test_barcode_turned_or_mirrored_is_refused() -> None:
    for number in range(0, 2**14, 97):
        upright = draw_barcode(number, 96, 64)
        wrong = [np.rot90(upright, turn) for turn in (1, 2, 3)] + [upright[::-1], upright[:, ::-1]]
        for picture in wrong:
            with pytest.raises(BarcodeError):
                read_barcode(picture)


def test_barcode_one_wrong_cell_is_refused() -> None:
    for number in (0, 777, 16383):
        for cell in range(24):
            picture = draw_barcode(number, 96, 64)
            row, column = divmod(cell, 6)
            block = picture[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            block[:] = 255 - block
            with pytest.raises(BarcodeError):
                read_barcode(picture)


def test_barcode_grey_is_refused() -> None:
    with pytest.raises(BarcodeError, match="neither black nor white"):
        read_barcode(np.full((48, 64, 3), 128, np.uint8))


@pytest.mark.parametrize("name", [case.name for case in SYNTHETIC])
def test_synthetic_video_tells_the_truth(name: str, synthetic_video: Callable[[str], VideoTruth]) -> None:
    truth = synthetic_video(name)
    numbers, timestamps_ms = read_video(truth.path)
    assert numbers == truth.numbers
    np.testing.assert_allclose(timestamps_ms, truth.timestamps_ms, rtol=0, atol=1e-6)
    with av.open(str(truth.path)) as source:
        coded = (source.streams.video[0].width, source.streams.video[0].height)
    shown = (truth.width, truth.height)
    assert coded == (shown[::-1] if truth.rotation in (90, 270) else shown)


def _packets(truth: VideoTruth) -> list[av.Packet]:
    with av.open(str(truth.path)) as source:
        return [packet for packet in source.demux(video=0) if packet.size]


@pytest.mark.parametrize("name", ["h264_open_gop", "hevc_open_gop"])
def test_open_gop_has_leading_pictures(name: str, synthetic_video: Callable[[str], VideoTruth]) -> None:
    packets = _packets(synthetic_video(name))
    starts = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert len(starts) >= 4
    # A leading picture follows a keyframe in decode order and precedes it in presentation order.
    assert all(packets[start + 1].pts < packets[start].pts for start in starts[1:])


def test_closed_gop_has_no_leading_pictures(synthetic_video: Callable[[str], VideoTruth]) -> None:
    packets = _packets(synthetic_video("h264_closed_gop"))
    starts = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert len(starts) == 4
    assert any(later.pts < earlier.pts for earlier, later in pairwise(packets))
    for start, end in zip(starts, [*starts[1:], len(packets)], strict=True):
        assert min(packet.pts for packet in packets[start:end]) == packets[start].pts


@pytest.mark.parametrize("name", ["edit_list", "edit_list_no_b"])
def test_edit_list_hides_coded_frames(name: str, synthetic_video: Callable[[str], VideoTruth]) -> None:
    packets = _packets(synthetic_video(name))
    assert len(packets) == 48
    assert sum(packet.is_discard for packet in packets) == 5


def test_long_gop_is_one_gop(synthetic_video: Callable[[str], VideoTruth]) -> None:
    packets = _packets(synthetic_video("long_gop"))
    assert len(packets) == 1100
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0]


@pytest.mark.parametrize(("name", "degrees"), [("rotated_90", -90), ("rotated_180", 180), ("rotated_270", 90)])
def test_rotation_is_in_the_container(name: str, degrees: int, synthetic_video: Callable[[str], VideoTruth]) -> None:
    with av.open(str(synthetic_video(name).path)) as source:
        frame = next(source.decode(video=0))
    assert (frame.rotation - degrees) % 360 == 0  # counterclockwise, as FFmpeg counts
    with pytest.raises(BarcodeError):
        read_barcode(frame.to_ndarray(format="rgb24"))


@pytest.mark.parametrize(
    ("name", "pix_fmt"),
    [
        ("hevc_10bit", "yuv420p10le"),
        ("prores", "yuv422p10le"),
        ("full_range", "yuvj420p"),
        ("yuv444", "yuv444p"),
        ("gray_ffv1", "gray"),
    ],
)
def test_pixel_format(name: str, pix_fmt: str, synthetic_video: Callable[[str], VideoTruth]) -> None:
    with av.open(str(synthetic_video(name).path)) as source:
        assert next(source.decode(video=0)).format.name == pix_fmt


def test_interlaced_is_interlaced(synthetic_video: Callable[[str], VideoTruth]) -> None:
    with av.open(str(synthetic_video("interlaced").path)) as source:
        assert all(frame.interlaced_frame for frame in source.decode(video=0))


def test_audio_is_there(synthetic_video: Callable[[str], VideoTruth]) -> None:
    with av.open(str(synthetic_video("h264_audio").path)) as source:
        assert len(source.streams.audio) == 1


def test_repeated_frames_are_bit_identical(synthetic_video: Callable[[str], VideoTruth]) -> None:
    truth = synthetic_video("repeated")
    assert truth.numbers[2:9] == (2, 3, 3, 3, 3, 4, 5)
    with av.open(str(truth.path)) as source:
        pictures = [frame.to_ndarray(format="rgb24").tobytes() for frame in source.decode(video=0)]
    same = [left == right for left, right in pairwise(pictures)]
    assert same == [left == right for left, right in pairwise(truth.numbers)]


def _built(bad: BadInput, folder: Path) -> BadFile:
    try:
        return bad.build(folder)
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")


def _decode_until_error(path: Path) -> tuple[list[int], bool]:
    """The barcodes that plain PyAV gives, and whether it raised in the end."""
    numbers: list[int] = []
    try:
        with av.open(str(path)) as source:
            pictures = (frame.to_ndarray(format="rgb24") for frame in source.decode(video=0))
            numbers.extend(read_barcode(picture) for picture in pictures)
    except (av.error.FFmpegError, IndexError, BarcodeError):  # IndexError: there is no video stream
        return numbers, True
    return numbers, False


def test_names_are_unique() -> None:
    for table in (SYNTHETIC, BAD):
        names = [case.name for case in table]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_as_bad_as_it_says(bad: BadInput, tmp_path: Path) -> None:
    file = _built(bad, tmp_path)
    if bad.name in PLAYLISTS:
        assert PLAYLISTS[bad.name] in file.path.read_text()
        assert (tmp_path / PLAYLISTS[bad.name]).is_file()
        return
    numbers, raised = _decode_until_error(file.path)
    if bad.expect == "refused":
        assert (numbers, raised) == ([], True)
        return
    assert file.truth is not None
    assert tuple(numbers) == file.truth.numbers[: len(numbers)]
    if bad.expect == "whole":
        assert len(numbers) == len(file.truth.numbers)
        assert not raised
    else:
        assert 10 < len(numbers) < len(file.truth.numbers) - 10


def test_ffconcat_bait_is_live(tmp_path: Path) -> None:
    """Plain PyAV follows the script to the neighbour even when only the protocol `file` is allowed."""
    path = next(bad for bad in BAD if bad.name == "ffconcat").build(tmp_path).path
    with av.open(str(path), options={"protocol_whitelist": "file"}) as source:
        assert len(list(source.decode(video=0))) == 3
