"""Whether a file ends before its container says: an interrupted copy, download or recording.

Decoding alone does not tell, since a cut file often plays without an error up to its end. MP4 and its kin are a row of
boxes, AVI is one RIFF chunk, Matroska is one segment element; each begins with its length. Other containers do not say
how long they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_MAX_BOXES = 100_000  # a fragmented hour has some thousands; a hostile file may claim millions


def is_cut_short(path: str | os.PathLike[str]) -> bool:
    """Whether the container promises bytes beyond the end of the file; False where it promises nothing."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            return _boxes_end(file, size) > size
        if head.startswith(b"RIFF"):
            return int.from_bytes(head[4:8], "little") + 8 > size
        if head.startswith(b"\x1aE\xdf\xa3"):
            return _segment_end(file) > size
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """End of the last top-level box (ISO/IEC 14496-12, 4.2)."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return size if not head else position + 8
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: up to the end of the file
            return size
        position += length
        if position >= size:
            return position
    return size


def _segment_end(file: BinaryIO) -> int:
    """End of the Segment element that follows the EBML header (RFC 8794); 0 where its length is not known."""
    file.seek(4)
    file.seek(_element_length(file), os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _element_length(file)
    return file.tell() + length if length else 0


def _element_length(file: BinaryIO) -> int:
    """A variable-length integer of EBML; 0 for "unknown" and for bytes that are none."""
    first = file.read(1)
    if not first or not first[0]:
        return 0
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    bits = 7 * width
    length = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return 0 if len(rest) < width - 1 or length == (1 << bits) - 1 else length
