"""What is opened as a video, and what is refused with a sentence that says why."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clipcache.cache.common.errors import MediaError
from clipcache.extract.video.container import CONTAINER_FORMATS, SOUND_FORMATS, open_video
from video_files import find_box, make_video, read_video

# Each of these demuxers reads the bytes of one file and asks for no other; those that hold pictures or sound alone
# and those that know their files by the suffix only are not wanted. Look at a new one before adding it here.
LOOKED_AT = frozenset(
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpeg mpegvideo flv live_flv asf asf_o ogg gif apng nut mxf "
    "ivf h264 hevc vvc obu av1 m4v mjpeg mjpeg_2000 dv rm swf vob yuv4mpegpipe dirac vc1 wtv gxf 4xm anm apv "
    "argo_brp avs bethsoftvid bfi bink c93 cavsvideo cdxl cine dfa dhav dnxhd dsicin dxa ea film_cpk flic gdv hnm "
    "idcin ifv ipmovie iv8 ivr jv kux lvf lxf mm mods moflex mtv mv mxg nc nsv nuv paf pdv pmp psxstr pva rl2 roq "
    "rpl ser siff smjpeg smk smush thp tiertexseq tmv ty usm vc1test vividas vivo vmd wc3movie wsvqa xmv yop".split()
)
SOUND = frozenset("wav w64 flac mp3 aac".split())
NEVER = frozenset(
    "hls dash concat image2 image2pipe sdp rtsp rtp sap mlv vobsub imf lavfi webm_dash_manifest tty avisynth data "
    "rawvideo alsa fbdev kmsgrab oss x11grab v4l2 bin ffmetadata".split()
)


def refusal(path: Path) -> str:
    with pytest.raises(MediaError) as refused, open_video(path):
        pass
    return str(refused.value)


def test_only_formats_that_were_looked_at_are_opened() -> None:
    formats = CONTAINER_FORMATS.split(",")
    assert len(formats) == len(set(formats))
    assert set(formats) <= LOOKED_AT
    assert set(SOUND_FORMATS.split(",")) <= LOOKED_AT | SOUND
    assert not (LOOKED_AT | SOUND) & NEVER


@pytest.mark.parametrize(
    ("name", "codec", "how"),
    [
        ("v.roq", "roqvideo", {"size": (128, 128), "pix_fmt": "yuvj444p", "fps": 30}),
        ("v.dnxhd", "dnxhd", {"size": (1920, 1080), "pix_fmt": "yuv422p", "options": {"b": "120M"}}),
    ],
)
def test_rare_containers_are_opened(tmp_path: Path, name: str, codec: str, how: dict[str, Any]) -> None:
    truth = make_video(tmp_path / name, codec=codec, frames=4, **how)
    with open_video(truth.path) as (container, stream):
        assert sum(1 for _ in container.decode(stream)) == len(read_video(truth.path)[0]) == 4


@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.9])
def test_a_truncated_nut_file_is_read_as_far_as_it_goes(tmp_path: Path, part: float) -> None:
    path = make_video(tmp_path / "v.nut", codec="mpeg4").path
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with av.open(str(path)) as whole:  # by its name FFmpeg reads it without Python
        packets = [packet.pts for packet in whole.demux(video=0) if packet.size]
    with open_video(path) as (container, stream):
        assert [packet.pts for packet in container.demux(stream) if packet.size] == packets
    assert packets


def test_a_file_of_which_too_little_is_left_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.nut", codec="mpeg4").path
    path.write_bytes(path.read_bytes()[:100])
    assert "is not a video that FFmpeg can open" in refusal(path)


def test_whatever_goes_wrong_at_opening_is_the_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(22, "Invalid argument")

    path = tmp_path / "v.mp4"
    path.write_bytes(b"anything")
    monkeypatch.setattr(av, "open", fail)
    assert "is not a video that FFmpeg can open (Invalid argument)" in refusal(path)


# --- encryption ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov", ""])
def test_mp4_with_common_encryption_is_refused(tmp_path: Path, flags: str) -> None:
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "1" * 32, "encryption_kid": "2" * 32}
    if flags:
        options["movflags"] = flags
    path = make_video(tmp_path / "v.mp4", container_options=options).path
    said = refusal(path)
    assert "is encrypted; decrypt it first" in said
    assert str(path) in said


def element(name: str, body: bytes) -> bytes:
    """An element of Matroska with a length of eight bytes."""
    return bytes.fromhex(name) + b"\x01" + len(body).to_bytes(7, "big") + body


@pytest.mark.parametrize("key", [b"0123456789abcdef", b""])
@pytest.mark.parametrize("encryption", [True, False])
def test_matroska_with_encryption_is_refused_and_with_compression_is_not(
    tmp_path: Path, encryption: bool, key: bytes
) -> None:
    path = make_video(tmp_path / "v.mkv", container_options={"live": "1", "write_crc32": "0"}).path
    data = path.read_bytes()
    # ContentEncodingScope 2 is the track's private data: compressed or not, the frames stay as they are.
    inner = element("5035", element("47e1", b"\x05") + (element("47e2", key) if key else b""))
    encoding = element("5031", b"\0") + element("5032", b"\1") + element("5033", b"\1" if encryption else b"\0")
    encoding += inner if encryption else element("5034", element("4254", b"\3") + element("4255", b""))
    added = element("6d80", element("6240", encoding))
    tracks = data.rindex(b"\x16\x54\xae\x6b", 0, data.index(b"\x1f\x43\xb6\x75"))  # not where it is sought
    entry = data.index(b"\xae", tracks + 4)
    head, content = data[:tracks], []
    for start in (tracks + 4, entry + 1):
        width = 9 - data[start].bit_length()
        length = int.from_bytes(data[start : start + width], "big") & ((1 << 7 * width) - 1)
        content.append((start + width, start + width + length))
    (tracks_body, tracks_end), (body, end) = content
    track = element("ae", data[body:end] + added)
    rebuilt = element("1654ae6b", data[tracks_body:entry] + track + data[end:tracks_end])
    path.write_bytes(head + rebuilt + data[tracks_end:])
    if encryption:
        assert "is encrypted; decrypt it first" in refusal(path)
    else:
        with open_video(path) as (container, stream):
            assert sum(1 for _ in container.decode(stream)) == 48


def crc_mpeg2(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def test_mpegts_with_encrypted_samples_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.ts", container="mpegts").path
    data = bytearray(path.read_bytes())
    changed = 0
    for packet in range(0, len(data), 188):
        table = packet + 5  # after the packet's head and the pointer
        if data[table] == 2 and data[packet + 1] & 0x40:  # a map of a programme
            end = table + 3 + ((data[table + 1] & 15) << 8 | data[table + 2])
            stream = table + 12 + ((data[table + 10] & 15) << 8 | data[table + 11])
            if data[stream] == 0x1B:
                data[stream] = 0xDB
                data[end - 4 : end] = crc_mpeg2(bytes(data[table : end - 4])).to_bytes(4, "big")
                changed += 1
    assert changed
    with open_video(path):
        pass
    path.write_bytes(data)
    assert "is encrypted; decrypt it first" in refusal(path)


def test_asf_with_a_protection_object_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.wmv", codec="wmv2", container="asf").path
    data = bytearray(path.read_bytes())
    parts = b"".join(len(part).to_bytes(4, "little") + part for part in (b"secret", b"DRM\0", b"key\0", b"http://x\0"))
    added = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + (24 + len(parts)).to_bytes(8, "little") + parts
    header = int.from_bytes(data[16:24], "little")
    data[header:header] = added
    data[16:24] = (header + len(added)).to_bytes(8, "little")
    data[24:28] = (int.from_bytes(data[24:28], "little") + 1).to_bytes(4, "little")
    path.write_bytes(data)
    assert "is encrypted; decrypt it first" in refusal(path)


# --- no video -----------------------------------------------------------------------------------------------


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        sound: Any = output.add_stream("aac", rate=48_000)
        sound.layout = "mono"
        cover: Any = output.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        picture = picture.reformat(format="yuvj420p")
        output.mux(cover.encode(picture))
        output.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    assert find_box(path.read_bytes(), "moov")
    assert "holds only a cover picture and no video; leave it out" in refusal(path)
