"""Whether a file that is a row of frames, pages or blocks is cut: IVF, GIF, APNG, Ogg, Y4M, FLV, DV, GXF.

Such a file has no length at its start; its last part tells. Each function takes a file of `size` bytes and is True
only where the file certainly lacks something.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import BinaryIO

from .nested_containers import MAX_PARTS

# --- IVF ----------------------------------------------------------------------------------------------------


def ivf_is_cut(file: BinaryIO, size: int) -> bool:
    """IVF: whether the last frame is cut, or the header counts more frames.

    Some writers store a duration in ticks there instead of a count; a number that fits the times is taken for one.
    """
    file.seek(6)
    start = int.from_bytes(file.read(2), "little")
    file.seek(24)
    promised = int.from_bytes(file.read(4), "little")
    times: list[int] = []
    while start < size:
        if len(times) == MAX_PARTS:
            return False
        file.seek(start)
        head = file.read(12)
        start += 12 + int.from_bytes(head[:4], "little")
        if start > size or len(head) < 12:
            return True
        times.append(int.from_bytes(head[4:], "little"))
    if not times or promised > size // 12:  # a placeholder
        return False
    step = max((after - before for before, after in pairwise(times)), default=1)
    is_duration = 0 < promised - (times[-1] - times[0]) <= step
    return len(times) < promised and not is_duration


# --- GIF and APNG -------------------------------------------------------------------------------------------

_GIF_MAX_BLOCKS = 1_000_000  # a block holds at most 255 bytes


def gif_is_cut(file: BinaryIO, _size: int) -> bool:
    """GIF: whether the file ends before its trailer, the byte 0x3B between two pictures or extensions."""
    file.seek(10)
    start = 13 + _colours_bytes(file.read(1))
    in_blocks = False
    for _ in range(_GIF_MAX_BLOCKS):
        file.seek(start)
        head = file.read(10)
        if not head:
            return True
        if in_blocks:  # an empty block ends the row
            start, in_blocks = start + 1 + head[0], head[0] != 0
        elif head[0] == 0x21:  # an extension
            start, in_blocks = start + 2, True
        elif head[0] == 0x2C:  # a picture: its place, its colours, the code size
            start, in_blocks = start + 11 + _colours_bytes(head[9:]), True
        else:
            return False  # the trailer, or nothing that GIF knows
    return False


def _colours_bytes(flags: bytes) -> int:
    """Length of the table of colours that a byte of flags announces."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def apng_is_cut(file: BinaryIO, size: int) -> bool:
    """APNG: whether the file ends before its IEND chunk."""
    start = 8
    for _ in range(MAX_PARTS):
        file.seek(start)
        head = file.read(8)
        start += 12 + int.from_bytes(head[:4], "big")
        if start > size:
            return True
        if head[4:] == b"IEND":
            return False
    return False


# --- Ogg (RFC 3533) -----------------------------------------------------------------------------------------

_OGG_FIRST, _OGG_LAST = 2, 4
# Theora, Dirac, VP8, Daala, and DirectShow's video.
_OGG_VIDEO = (b"\x80theora", b"BBCD", b"OVP80", b"\x80daala", b"\x01video")


def ogg_is_cut(file: BinaryIO, size: int) -> bool:
    """Ogg: whether the last page is cut, or a video stream lacks the page that is marked as its last."""
    unfinished: set[bytes] = set()
    start = 0
    for _ in range(MAX_PARTS):
        file.seek(start)
        head = file.read(27 + 255)
        if not head:
            return bool(unfinished)
        lacing = head[27 : 27 + head[26]] if len(head) > 26 else b""
        body = start + 27 + len(lacing)
        if not head.startswith(b"OggS"[: len(head)]):
            return False
        if len(head) < 27 or len(lacing) < head[26] or body + sum(lacing) > size:
            return bool(unfinished) or len(head) >= 27
        serial = head[14:18]
        if head[5] & _OGG_FIRST and head[27 + len(lacing) :].startswith(_OGG_VIDEO):
            unfinished.add(serial)
        if head[5] & _OGG_LAST:
            unfinished.discard(serial)
        start = body + sum(lacing)
    return False


# --- YUV4MPEG2 ----------------------------------------------------------------------------------------------

# Width and height of the planes of colour as a part of the picture's; planes of full size.
_Y4M_CHROMA = {"420": (2, 2, 1), "411": (4, 1, 1), "422": (2, 1, 1), "444": (1, 1, 1), "mono": (0, 0, 1)}


def y4m_is_cut(file: BinaryIO, size: int) -> bool:
    """Y4M: whether the last frame is cut; a cut between two frames cannot be known."""
    file.seek(0)
    line = file.readline(1024)
    frame = _y4m_frame_bytes(line.decode("latin-1").split())
    start = len(line)
    for _ in range(MAX_PARTS if frame else 0):
        file.seek(start)
        line = file.readline(1024)
        if not line.startswith(b"FRAME"[: len(line)]):
            return False  # something else follows the frames
        start += len(line) + frame
        if start > size:
            return bool(line)
    return False


def _y4m_frame_bytes(fields: list[str]) -> int:
    """Bytes of a frame by the fields of the header; 0 where unknown."""
    values = {field[0]: field[1:] for field in reversed(fields[1:])}
    chroma = values.get("C", "420")
    name = next((name for name in _Y4M_CHROMA if chroma.startswith(name)), "")
    if not name or not values.get("W", "").isdecimal() or not values.get("H", "").isdecimal():
        return 0
    width, height = int(values["W"]), int(values["H"])
    across, down, full = _Y4M_CHROMA[name]
    colour = 2 * math.ceil(width / across) * math.ceil(height / down) if across else 0
    depth = chroma[len(name) :].lstrip("p")
    deep = depth.isdecimal() and int(depth) > 8
    alpha = width * height if chroma == "444alpha" else 0
    return (full * width * height + colour + alpha) * (2 if deep else 1)


# --- FLV ----------------------------------------------------------------------------------------------------


def flv_is_cut(file: BinaryIO, size: int) -> bool:
    """FLV: whether the last tag is cut; a cut between two tags cannot be known."""
    if _flv_ends_with_a_tag(file, size):
        return False
    file.seek(5)
    start = int.from_bytes(file.read(4), "big") + 4
    for _ in range(MAX_PARTS):
        file.seek(start)
        head = file.read(11)
        if not head or head[0] & 0x1F not in (8, 9, 18):  # sound, video, data
            return False
        start += 11 + int.from_bytes(head[1:4], "big")
        if start > size or len(head) < 11:
            return True
        start += 4
    return False


def _flv_ends_with_a_tag(file: BinaryIO, size: int) -> bool:
    """Whether the last four bytes are the length of a tag that lies before them, as they are in a whole file."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    head = file.read(4)
    return head[0] & 0x1F in (8, 9, 18) and int.from_bytes(head[1:], "big") == length - 11


# --- DV (IEC 61834, SMPTE 314M, 370M) -----------------------------------------------------------------------

# Bytes of a frame by (50 fields a second, signal type).
_DV_FRAME_BYTES = {
    (False, 0x00): 120_000,
    (True, 0x00): 144_000,
    (True, 0x01): 144_000,
    (False, 0x04): 240_000,
    (True, 0x04): 288_000,
    (False, 0x14): 480_000,
    (True, 0x14): 576_000,
    (False, 0x18): 240_000,
    (True, 0x18): 288_000,
}


def dv_is_cut(file: BinaryIO, size: int) -> bool:
    """DV: whether the last frame is cut; a cut between two frames cannot be known."""
    file.seek(0)
    head = file.read(452)
    if len(head) < 452:
        return True
    frame = _DV_FRAME_BYTES.get((bool(head[3] & 0x80), head[451] & 0x1F))
    return frame is not None and size % frame != 0


# --- GXF (SMPTE 360M) ---------------------------------------------------------------------------------------

_GXF_START, _GXF_END_OF_STREAM = b"\0\0\0\0\x01", 0xFB


def gxf_is_cut(file: BinaryIO, size: int) -> bool:
    """GXF: whether the file ends before its end-of-stream packet."""
    start = 0
    for _ in range(MAX_PARTS):
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[6:10], "big")
        if len(head) < 16:
            return True
        if not head.startswith(_GXF_START) or length < 16 or head[5] == _GXF_END_OF_STREAM:
            return False
        start += length
        if start > size:
            return True
    return False
