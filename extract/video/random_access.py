"""Whether decoding may begin at a packet, by what its own bytes say.

The keyframe flag is the container's word, which some containers give to every packet. For the codecs below the
bitstream itself says that a picture refers to nothing before it. Used where the proof by decoding on (`proof`) would
cost what is to be saved: for frames picked far apart.

Sources: ISO/IEC 14496-10, 7.4.1 (H.264); ISO/IEC 23008-2, 7.4.2.2 (HEVC); RFC 6386, 9.1 (VP8); the VP9 and AV1
bitstream specifications, "uncompressed header"; ISO/IEC 13818-2, 6.2.3 (MPEG-2); ISO/IEC 14496-2, 6.2.5 (MPEG-4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def starts_alone(codec: str, packet: bytes, extradata: bytes) -> bool:
    """Whether a packet's picture, and all that follow it in presentation order, refer to nothing before it.

    Args:
        codec: FFmpeg's name.
        packet: as the container holds it.
        extradata: of the stream; tells how H.264 and HEVC part their units.

    Returns:
        False also where the codec is none of those known here.
    """
    check = _CHECKS.get(codec)
    try:
        return check is not None and check(packet, extradata)
    except IndexError:
        return False


def shows_picture(codec: str, packet: Any) -> bool:
    """Whether a packet shows a picture, as far as is known: alternate references of VP8 and comments of GIF do not."""
    if codec == "vp8":
        return bool(memoryview(packet)[0] & 16)
    return codec != "gif" or b"\x2c" in bytes(packet)


def _h264(packet: bytes, extradata: bytes) -> bool:
    length_size = (extradata[4] & 3) + 1 if extradata[:1] == b"\1" else 0
    types = [unit & 31 for unit in _unit_heads(packet, length_size)]
    return next((kind for kind in types if 1 <= kind <= 5), 0) == 5  # the first slice is of an IDR picture


def _hevc(packet: bytes, extradata: bytes) -> bool:
    is_hvcc = len(extradata) > 22 and extradata[:3] not in (b"\0\0\0", b"\0\0\1")
    types = [unit >> 1 & 63 for unit in _unit_heads(packet, (extradata[21] & 3) + 1 if is_hvcc else 0)]
    return next((kind for kind in types if kind < 32), 0) in range(16, 22)  # BLA, IDR or CRA


def _unit_heads(packet: bytes, length_size: int) -> Iterator[int]:
    """First byte of each NAL unit; after lengths of `length_size` bytes, or after start codes where that is 0."""
    position = 0
    while length_size and position + length_size < len(packet):
        yield packet[position + length_size]
        position += length_size + int.from_bytes(packet[position : position + length_size], "big")
    while not length_size and (position := packet.find(b"\0\0\1", position) + 3) > 2 and position < len(packet):
        yield packet[position]


def _vp8(packet: bytes, _: bytes) -> bool:
    return not packet[0] & 1


def _vp9(packet: bytes, _: bytes) -> bool:
    profile_3 = packet[0] >> 4 & 3 == 3
    show_existing, inter = (
        (packet[0] >> 2 & 1, packet[0] >> 1 & 1) if profile_3 else (packet[0] >> 3 & 1, packet[0] >> 2 & 1)
    )
    return packet[0] >> 6 == 2 and not show_existing and not inter


def _av1(packet: bytes, _: bytes) -> bool:
    has_sequence = False
    for kind, body in _obus(packet):
        has_sequence = has_sequence or kind == 1
        if kind in (3, 6):  # a frame header, a frame: show_existing_frame 0, frame_type KEY_FRAME, show_frame 1
            return has_sequence and body[0] >> 4 == 0b0001
    return False


def _obus(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each open bitstream unit."""
    position = 0
    while position < len(packet):
        head = packet[position]
        position += 2 if head & 4 else 1
        size = len(packet) - position
        if head & 2:  # the size follows, in groups of seven bits
            size = shift = 0
            while True:
                byte = packet[position]
                position += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        yield head >> 3 & 15, packet[position : position + size]
        position += size


def _mpeg12(packet: bytes, _: bytes) -> bool:
    picture = packet.find(b"\0\0\1\0")
    return (
        b"\0\0\1\xb3" in packet[: picture + 1] and packet[picture + 5] >> 3 & 7 == 1
    )  # a sequence header, an I picture


def _mpeg4(packet: bytes, _: bytes) -> bool:
    picture = packet.find(b"\0\0\1\xb6")
    return picture >= 0 and packet[picture + 4] >> 6 == 0  # an I-VOP


_CHECKS: dict[str, Callable[[bytes, bytes], bool]] = {
    "h264": _h264,
    "hevc": _hevc,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "mpeg1video": _mpeg12,
    "mpeg2video": _mpeg12,
    "mpeg4": _mpeg4,
}
KNOWN_CODECS = frozenset(_CHECKS)
