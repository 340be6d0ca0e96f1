"""A whole file is never called cut, and a cut one is where its container tells."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clipcache.extract.video.file_checks.truncation import believable_frames, is_cut_short
from video_files import draw_barcode, find_box, has_encoder, make_video

pytestmark = pytest.mark.once

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
DEEP = {"container": "yuv4mpegpipe", "pix_fmt": "yuv422p10le", "container_options": {"strict": "-1"}}
NTSC = {"size": (720, 480), "frames": 5, "pix_fmt": "yuv411p", "fps": Fraction(30000, 1001)}
INDEXED = {"movflags": "frag_keyframe+empty_moov+dash+global_sidx"}


@dataclass(frozen=True)
class Kind:
    """A container: how to write one, and whether it tells that it was cut anywhere but between two of its parts."""

    name: str
    codec: str
    tells: bool
    how: dict[str, Any] = field(default_factory=dict)


KINDS = [
    Kind("plain.mp4", "libx264", True),
    Kind("faststart.mp4", "libx264", True, {"container_options": {"movflags": "faststart"}}),
    Kind("fragments.mp4", "libx264", True, {"container_options": FRAGMENTED, "options": {"g": "12"}}),
    Kind("indexed.mp4", "libx264", True, {"container_options": INDEXED, "options": {"g": "12"}}),
    Kind("hevc.mov", "libx265", True),
    Kind("prores.mov", "prores_ks", True, {"pix_fmt": "yuv422p10le"}),
    Kind("av1.mp4", "libsvtav1", True),
    Kind("v.avi", "mpeg4", True),
    Kind("v.mkv", "libx264", True),
    Kind("v.webm", "libvpx-vp9", True),
    Kind("live.mkv", "libx264", True, {"container_options": {"live": "1"}}),
    Kind("vp8.ivf", "libvpx", True),
    Kind("av1.ivf", "libsvtav1", True),
    Kind("v.gif", "gif", True, {"pix_fmt": "rgb8"}),
    Kind("v.apng", "apng", True, {"pix_fmt": "rgb24"}),
    Kind("v.ogv", "libvpx", True, {"container": "ogg"}),
    Kind("v.y4m", "rawvideo", True, {"container": "yuv4mpegpipe", "size": (161, 121)}),
    Kind("deep.y4m", "rawvideo", True, DEEP),
    Kind("v.swf", "flv", True),
    Kind("v.wmv", "wmv2", True, {"container": "asf"}),
    Kind("v.mxf", "mpeg2video", True),
    Kind("pal.dv", "dvvideo", True, {"size": (720, 576), "frames": 5}),
    Kind("ntsc.dv", "dvvideo", True, NTSC),
    Kind("v.rm", "rv10", True, {"size": (176, 144)}),
    Kind("v.flv", "flv", True),
    Kind("sound.flv", "libx264", True, {"audio": True}),
    Kind("v.gxf", "mpeg2video", True, {"size": (720, 512)}),
    Kind("v.nut", "mpeg4", False),
    Kind("v.mpg", "mpeg2video", False),
    Kind("v.ts", "libx264", False),
    Kind("v.h264", "libx264", False),
    Kind("v.hevc", "libx265", False),
    Kind("v.mjpeg", "mjpeg", False, {"pix_fmt": "yuvj420p"}),
    Kind("v.obu", "libsvtav1", False),
]
BY_NAME = {kind.name: kind for kind in KINDS}


def written(folder: Path, name: str) -> Path:
    kind = BY_NAME[name]
    if not has_encoder(kind.codec):
        pytest.skip(f"no encoder {kind.codec}")
    return make_video(folder / name, codec=kind.codec, **{"frames": 40, **kind.how}).path


@pytest.mark.parametrize("name", BY_NAME)
def test_a_cut_is_seen_where_the_container_tells_and_a_whole_file_is_whole(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    data = path.read_bytes()
    assert not is_cut_short(path)
    for part in (0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * part) + 1])  # of raw frames, not between two
        assert is_cut_short(path) is BY_NAME[name].tells


@pytest.mark.parametrize("name", ["plain.mp4", "faststart.mp4", "fragments.mp4", "prores.mov"])
@pytest.mark.parametrize(
    "trailer",
    [b"abcd", b"hello world, this is a trailer", bytes(3), bytes(4), bytes(100), b"\0\0\0\x08free", b"\xff" * 7],
)
def test_what_follows_the_last_box_is_not_a_cut(tmp_path: Path, name: str, trailer: bytes) -> None:
    path = written(tmp_path, name)
    data = path.read_bytes()
    path.write_bytes(data + trailer)
    assert not is_cut_short(path)
    path.write_bytes(data[: len(data) // 2])
    assert is_cut_short(path)


def test_a_cut_in_the_last_box_of_an_mp4_file_is_seen_at_every_byte(tmp_path: Path) -> None:
    path = written(tmp_path, "plain.mp4")
    data = path.read_bytes()
    moov = find_box(data, "moov")[0] - 8
    for end in range(moov + 5, len(data)):
        path.write_bytes(data[:end])
        assert is_cut_short(path)


def test_a_fragment_without_its_data_and_an_index_of_more_fragments_tell(tmp_path: Path) -> None:
    path = written(tmp_path, "fragments.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: find_box(data, "moof")[1]])
    assert is_cut_short(path)
    path.write_bytes(data[: find_box(data, "mdat")[1]])  # a whole fragment, and nothing that promises another
    assert not is_cut_short(path)
    path = written(tmp_path, "indexed.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: find_box(data, "mdat")[1]])
    assert is_cut_short(path)


class Pipe:
    """A file that cannot be rewound."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)


PIPED = {
    "avi": ("mpeg4", True),
    "matroska": ("libx264", True),
    "ivf": ("libvpx", True),
    "flv": ("flv", True),
    "mxf": ("mpeg2video", True),
    "asf": ("wmv2", False),
    "rm": ("rv10", False),
    "swf": ("flv", False),
}


def piped(container: str, codec: str) -> bytes:
    output = Pipe()
    with av.open(output, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        for number in range(30):
            picture = av.VideoFrame.from_ndarray(draw_barcode(number, 176, 144), format="rgb24")
            frame = picture.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return output.data


@pytest.mark.parametrize("container", PIPED)
def test_a_file_written_to_a_pipe_is_whole_and_its_last_part_tells_of_a_cut(tmp_path: Path, container: str) -> None:
    codec, tells = PIPED[container]
    data, path = piped(container, codec), tmp_path / "file"
    path.write_bytes(data)
    assert not is_cut_short(path)
    for part in (0.4, 0.7):
        path.write_bytes(data[: int(len(data) * part)])
        assert is_cut_short(path) is tells


@pytest.mark.parametrize("placeholder", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 5000])
def test_an_avi_file_whose_length_is_a_placeholder_is_whole(tmp_path: Path, placeholder: int) -> None:
    path = written(tmp_path, "v.avi")
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", placeholder)
    path.write_bytes(data)
    assert not is_cut_short(path)
    path.write_bytes(data[: data.rindex(b"00dc", 0, data.rindex(b"idx1")) + 20])
    assert is_cut_short(path)


def test_every_riff_chunk_of_an_avi_file_is_looked_at(tmp_path: Path) -> None:
    path = written(tmp_path, "v.avi")
    frames = b"LIST" + struct.pack("<I", 1004) + b"movi" + bytes(1000)
    second = b"RIFF" + struct.pack("<I", 4 + len(frames)) + b"AVIX" + frames
    data = path.read_bytes() + second
    path.write_bytes(data)
    assert not is_cut_short(path)
    path.write_bytes(data + b"and a trailer")
    assert not is_cut_short(path)
    path.write_bytes(data[:-1])
    assert is_cut_short(path)


def test_numbers_of_frames_that_cannot_be_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(piped("avi", "mpeg4"))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 1 << 30
        assert believable_frames(container.streams.video[0].frames, path.stat().st_size) == 0
    assert believable_frames(1 << 30, 1 << 40) == 0
    assert believable_frames(-1, 1000) == 0
    assert believable_frames(251, 1000) == 0
    assert believable_frames(250, 1000) == 250


@pytest.mark.parametrize("comment", [b"\x21\xfe\x05hello\x00"])
def test_a_comment_before_or_after_the_trailer_of_a_gif_is_not_a_cut(tmp_path: Path, comment: bytes) -> None:
    path = written(tmp_path, "v.gif")
    data = path.read_bytes()
    assert data.endswith(b";")
    for whole in (data[:-1] + comment + b";", data + comment, data + b"\0\0"):
        path.write_bytes(whole)
        assert not is_cut_short(path)
    path.write_bytes(data[:-1])
    assert is_cut_short(path)


@pytest.mark.parametrize(
    ("frames", "header", "cut"),
    [
        ([0, 1, 2, 3], 4, False),
        ([0, 1, 2, 3], 5, True),
        ([0, 1, 2, 3], 0, False),
        ([0, 1, 2, 3], 0xFFFFFFFF, False),
        ([0, 40, 80, 120], 160, False),  # a duration
        ([0, 40, 80, 120], 120 + 80, True),
        ([0, 40, 80, 120], 5, True),
        ([0, 40, 80, 120], 4, False),
    ],
)
def test_the_count_of_an_ivf_file_may_be_a_duration(tmp_path: Path, frames: list[int], header: int, cut: bool) -> None:
    start = b"DKIF" + struct.pack("<HH4sHHIIII", 0, 32, b"VP80", 16, 16, 1000, 1, header, 0)
    path = tmp_path / "v.ivf"
    path.write_bytes(start + b"".join(struct.pack("<IQ", 1000, time) + bytes(1000) for time in frames))
    assert is_cut_short(path) is cut


def test_an_ogg_file_that_ends_after_a_whole_page_lacks_the_mark_of_the_last(tmp_path: Path) -> None:
    path = written(tmp_path, "v.ogv")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS")])
    assert is_cut_short(path)
    path.write_bytes(data + b"TAG" + bytes(125))
    assert not is_cut_short(path)


def test_a_broadcast_cannot_say_how_long_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "v.wmv")
    data = bytearray(path.read_bytes())
    place = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    data[place + 88] |= 1
    path.write_bytes(data[: len(data) // 2])
    assert not is_cut_short(path)


def test_frames_of_y4m_may_have_parameters(tmp_path: Path) -> None:
    path = tmp_path / "v.y4m"
    data = b"YUV4MPEG2 W5 H3 F25:1 C420jpeg\n" + (b"FRAME Ip\n" + bytes(27)) * 3 + b"FRAME\n" + bytes(27)
    for end, cut in ((len(data), False), (len(data) - 1, True), (len(data) - 30, True), (len(data) - 33, False)):
        path.write_bytes(data[:end])
        assert is_cut_short(path) is cut


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.tells and "dv" not in kind.name])
def test_damage_is_met_with_an_answer(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    data = written(tmp_path, name).read_bytes()[:50_000]
    path = tmp_path / "damaged"
    for _ in range(60):
        damaged = np.frombuffer(data[: rng.randrange(1, len(data) + 1)], np.uint8).copy()
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(min(len(damaged), 600))] = rng.choice((0, 1, 127, 128, 255))
        path.write_bytes(damaged.tobytes())
        assert is_cut_short(path) in (True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 1_000_000,
        b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\x01x" * 4_000_000,
        b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\xff" + b"\xec\x80" * 1_000_000,
        b"FLV\x01\0\0\0\0\x09" + b"\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0" * 1_000_000,
    ],
    ids=["boxes", "endless box", "blocks", "elements", "tags"],
)
@pytest.mark.timeout(20)
def test_a_hostile_file_costs_little(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(data)
    assert is_cut_short(path) is (len(data) < 100)
