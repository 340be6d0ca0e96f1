"""Whether a file of nested boxes is cut: MP4, AVI, Matroska, ASF, RealMedia, SWF, MXF.

Their boxes begin with their own length, so a box that ends after the file tells. Each function takes a file of `size`
bytes and is True only where the file certainly lacks something.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_PARTS = 100_000  # a fragmented hour has some thousands; a hostile file may claim millions


class Box(NamedTuple):
    """A box, chunk or element.

    Attributes:
        kind: its type, as the file has it.
        body: offset of its content in bytes.
        end: offset of what follows it in bytes, even where that is after the end of the file.
    """

    kind: bytes
    body: int
    end: int


# --- MP4, MOV and their kin (ISO/IEC 14496-12, 4.2) ---------------------------------------------------------

_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"sidx", b"pnot", b"jP  ")
_TOP_BOXES = frozenset(
    b"ftyp moov mdat wide free skip styp moof sidx ssix pnot PICT mfra meta uuid udta prft emsg pdin imda jumb".split()
)


def is_mp4(head: bytes) -> bool:
    """Whether these are the first 8 bytes or more of an MP4 file or one of its kin."""
    return head[4:8] in _FIRST_BOXES


def mp4_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The boxes between two offsets; the last may end later. Stops before what cannot be a box."""
    for _ in range(MAX_PARTS):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        length, body = int.from_bytes(head[:4], "big"), start + 8
        if length == 1:
            length, body = int.from_bytes(head[8:], "big"), start + 16
        if length == 0:
            length = end - start
        if length < body - start:
            return
        yield Box(head[4:8], body, start + length)
        start += length


def mp4_is_cut(file: BinaryIO, size: int) -> bool:
    """MP4, MOV: whether the last box is cut, a fragment lacks its data, or an index promises more bytes.

    What follows the film and is not a known box is a trailer: phones and cameras append such.
    """
    seen: set[bytes] = set()
    last, end, promised = b"", 0, 0
    for box in mp4_boxes(file, 0, size):
        if box.kind not in _TOP_BOXES and b"moov" in seen and seen & {b"mdat", b"moof"}:
            break
        if box.end > size:
            return True
        if box.kind == b"sidx":
            promised = max(promised, _sidx_end(file, box))
        seen.add(box.kind)
        last, end = box.kind, box.end
    return last == b"moof" or promised > size or _is_cut_head(file, end, size)


def _is_cut_head(file: BinaryIO, start: int, size: int) -> bool:
    """Whether the last 5 to 7 bytes begin a known box; fewer say nothing."""
    file.seek(start)
    kind = file.read(8)[4:] if 4 < size - start < 8 else b""
    return bool(kind) and any(known.startswith(kind) for known in _TOP_BOXES)


def _sidx_end(file: BinaryIO, box: Box) -> int:
    """End of the last fragment that a segment index lists (8.16.3)."""
    file.seek(box.body)
    body = file.read(min(box.end - box.body, 1 << 20))
    wide = 8 if body[:1] == b"\x01" else 4
    first = 12 + wide
    count = int.from_bytes(body[first + wide + 2 : first + wide + 4], "big")
    entries = body[first + wide + 4 :][: 12 * count]
    if len(entries) < 12 * count:
        return 0
    sizes = sum(int.from_bytes(entries[i : i + 4], "big") & 0x7FFFFFFF for i in range(0, len(entries), 12))
    return box.end + int.from_bytes(body[first : first + wide], "big") + sizes


# --- AVI (RIFF chunks; OpenDML 1.02 for several in a row) ---------------------------------------------------

# What writers put where they cannot rewind: nothing, or the most that fits.
_NO_RIFF_LENGTH = frozenset((0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF))


def avi_is_cut(file: BinaryIO, size: int) -> bool:
    """AVI: whether a RIFF chunk is cut, or, where it has no length, the last chunk in it."""
    start = 0
    for _ in range(MAX_PARTS):
        file.seek(start)
        head = file.read(12)
        if head[:4] != b"RIFF":
            return False
        length = int.from_bytes(head[4:8], "little")
        if _has_no_length(file, start, length):
            return _riff_chunk_is_cut(file, start + 12, size)
        if start + 8 + length > size:
            return True
        start += 8 + length + length % 2
    return False


def _has_no_length(file: BinaryIO, start: int, length: int) -> bool:
    """Whether a RIFF chunk's length is a placeholder: known as one, or too short for the list of frames in it."""
    if length in _NO_RIFF_LENGTH:
        return True
    position = start + 12
    for _ in range(100):
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            return False
        end = position + 8 + int.from_bytes(head[4:8], "little")
        if head[:4] == b"LIST" and head[8:] == b"movi":
            return end > start + 8 + length
        position = end + end % 2
    return False


def _riff_chunk_is_cut(file: BinaryIO, start: int, size: int) -> bool:
    """Whether the last of the chunks from `start` on ends after the file; lists of frames are entered."""
    for _ in range(MAX_PARTS):
        file.seek(start)
        head = file.read(12)
        if len(head) < 8:
            return False
        length = int.from_bytes(head[4:8], "little")
        if head[:4] == b"RIFF" or (head[:4] == b"LIST" and head[8:] in (b"movi", b"rec ")):
            start += 12
        elif not all(32 <= byte < 127 for byte in head[:4]):
            return False  # not a chunk: what follows the film
        elif start + 8 + length > size:
            return True
        else:
            start += 8 + length + length % 2
    return False


# --- Matroska and WebM (RFC 8794, RFC 9559) -----------------------------------------------------------------

_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_TOP_ELEMENTS = frozenset(
    bytes.fromhex(name) for name in "114d9b74 1549a966 1654ae6b 1f43b675 1c53bb6b 1941a469 1043a770 1254c367".split()
)
# Timestamp, SimpleBlock, BlockGroup, PrevSize, Position, SilentTracks, EncryptedBlock, CRC-32, Void.
_IN_CLUSTER = frozenset(bytes.fromhex(name) for name in "e7 a3 a0 ab a7 5854 af bf ec".split())


def matroska_is_cut(file: BinaryIO, size: int) -> bool:
    """Matroska: whether the segment is cut, or, where it has no length, the last element of known length in it."""
    for element in ebml_elements(file, 0, size):
        if element.kind == _SEGMENT:
            return element.end > size if element.end else _last_element_is_cut(file, element.body, size)
    return False


def ebml_elements(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The elements between two offsets; `end` is 0 in one of unknown length, after which its own children follow."""
    for _ in range(MAX_PARTS):
        if start >= end:
            return
        file.seek(start)
        head = file.read(12)
        kind = head[: 9 - head[0].bit_length()] if head and head[0] >> 4 else b""
        length, width = _ebml_length(head[len(kind) :])
        if not kind or not width:
            return
        body = start + len(kind) + width
        yield Box(kind, body, 0 if length is None else body + length)
        start = body + (length or 0)


def _ebml_length(head: bytes) -> tuple[int | None, int]:
    """A variable-length integer and its bytes: None for "unknown", no bytes where there is none."""
    width = 9 - head[0].bit_length() if head else 9
    if width > min(8, len(head)):
        return None, 0
    length = int.from_bytes(head[:width], "big") & ((1 << 7 * width) - 1)
    return (None if length == (1 << 7 * width) - 1 else length), width


def _last_element_is_cut(file: BinaryIO, start: int, size: int) -> bool:
    for element in ebml_elements(file, start, size):
        if element.kind not in _TOP_ELEMENTS | _IN_CLUSTER:
            return False
        if element.end > size:
            return True
    return False


# --- ASF and WMV --------------------------------------------------------------------------------------------

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1


def asf_is_cut(file: BinaryIO, size: int) -> bool:
    """ASF, WMV: whether the file is shorter than its properties say; a broadcast (a stream saved) cannot say."""
    file.seek(16)
    header_end = int.from_bytes(file.read(8), "little")
    start = 30
    for _ in range(1000):
        if start + 24 > min(header_end, size):
            break
        file.seek(start)
        head = file.read(92)
        if head.startswith(_ASF_FILE_PROPERTIES) and len(head) == 92:
            broadcast = int.from_bytes(head[88:92], "little") & _ASF_BROADCAST
            return not broadcast and int.from_bytes(head[40:48], "little") > size
        start += max(24, int.from_bytes(head[16:24], "little"))
    return header_end > size


# --- RealMedia ----------------------------------------------------------------------------------------------

_REAL_CHUNKS = frozenset((b".RMF", b"PROP", b"MDPR", b"CONT", b"DATA", b"INDX"))
_REAL_DATA_HEAD = 18  # FFmpeg counts the head of the data twice


def realmedia_is_cut(file: BinaryIO, size: int) -> bool:
    """RealMedia: whether a chunk of the header, the data or the index is cut."""
    start = 0
    for _ in range(1000):
        file.seek(start)
        head = file.read(8)
        length = int.from_bytes(head[4:], "big")
        if head[:4] not in _REAL_CHUNKS or length < 10:  # 0: written to a pipe
            return False
        start += length
        if start > size + (_REAL_DATA_HEAD if head[:4] == b"DATA" else 0):
            return True
    return False


# --- SWF ----------------------------------------------------------------------------------------------------

_SWF_PLACEHOLDER = 100 << 20  # what FFmpeg writes to a pipe


def swf_is_cut(file: BinaryIO, size: int) -> bool:
    """SWF, not compressed: whether the file is shorter than its header says."""
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    return length > size and length != _SWF_PLACEHOLDER


# --- MXF (SMPTE ST 377-1) -----------------------------------------------------------------------------------

_MXF_KEY = b"\x06\x0e+4"
_MXF_PARTITION = b"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02\x01\x01"
_MXF_HEADER_OPEN = (1, 3)  # the footer has the last word, so there must be one
_MXF_FOOTER = 4


def mxf_is_cut(file: BinaryIO, size: int) -> bool:
    """MXF: whether the footer partition is missing or cut, or, where none need be, the last triplet is."""
    file.seek(0)
    head = file.read(16)
    _, body = _klv_length(file.read(9), 16)
    file.seek(body + 24)
    footer = int.from_bytes(file.read(8), "big")
    if footer >= size:
        return True
    found_footer, start = False, footer
    for _ in range(MAX_PARTS):
        if start >= size:
            return head[14] in _MXF_HEADER_OPEN and not found_footer
        file.seek(start)
        key = file.read(25)
        length, body = _klv_length(key[16:], start + 16)
        if not key.startswith(_MXF_KEY[: len(key)]):
            return False
        if len(key) < 17 or body + length > size:
            return True
        found_footer |= key.startswith(_MXF_PARTITION) and key[13] == _MXF_FOOTER
        start = body + length
    return False


def _klv_length(head: bytes, start: int) -> tuple[int, int]:
    """Length of a triplet's value and the offset of the value: one byte below 128, else the count of bytes."""
    first = head[0] if head else 0
    width = first & 0x7F if first & 0x80 else 0
    return (int.from_bytes(head[1 : 1 + width], "big") if width else first), start + 1 + width
