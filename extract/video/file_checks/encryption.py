"""Whether the pictures of a video are encrypted: decoded without a key they are noise, mostly without an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .nested_containers import Box, ebml_elements, mp4_boxes

# Sample entries of MP4 whose payload is encrypted: Common Encryption (ISO/IEC 23001-7) and Apple's FairPlay.
_ENCRYPTED_ENTRIES = (b"encv", b"drmi")
_TO_SAMPLE_ENTRIES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
# Elements of Matroska (RFC 9559): Segment, Tracks, TrackEntry; in it ContentEncodings, its parts, ContentEncryption.
_TO_TRACK_ENTRIES = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae")
_TO_ENCRYPTION = (b"\x6d\x80", b"\x62\x40", b"\x50\x35")
_TRACK_TYPE, _VIDEO = b"\x83", 1
# Stream type of H.264 in MPEG-TS whose samples are encrypted for HLS.
_SAMPLE_AES_H264 = b"\xdb"


def is_encrypted(container: Any, stream: Any, path: str | os.PathLike[str]) -> bool:
    """Whether the container says that its video is encrypted.

    Args:
        container: of PyAV, just opened.
        stream: of PyAV, the video stream.
        path: the same file.
    """
    names = container.format.name.split(",")
    if "mpegts" in names:
        return _codec_tag(stream)[:1] == _SAMPLE_AES_H264
    if "asf" in names:
        return "ASF_Protection_Type" in container.metadata
    if "mp4" not in names and "matroska" not in names:
        return False
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _mp4_is_encrypted(file, size) if "mp4" in names else _matroska_is_encrypted(file, size)


def _codec_tag(stream: Any) -> bytes:
    """The four bytes by which the container names the codec; in MPEG-TS the first is the stream type."""
    try:
        return bytes(stream.codec_context.codec_tag, "ascii")
    except UnicodeDecodeError as error:  # PyAV reads them as ASCII
        return error.object


def _mp4_is_encrypted(file: BinaryIO, size: int) -> bool:
    for entries in _boxes_at(file, 0, size, _TO_SAMPLE_ENTRIES):
        first = entries.body + 8  # version, flags and the number of entries
        if any(entry.kind in _ENCRYPTED_ENTRIES for entry in mp4_boxes(file, first, min(entries.end, size))):
            return True
    return False


def _boxes_at(file: BinaryIO, start: int, end: int, way: tuple[bytes, ...]) -> Iterator[Box]:
    """The boxes at the end of a way of types, down from those between two offsets; one `moov` only."""
    for box in mp4_boxes(file, start, end):
        if box.kind != way[0]:
            continue
        if len(way) == 1:
            yield box
        else:
            yield from _boxes_at(file, box.body, min(box.end, end), way[1:])
        if box.kind == b"moov":
            return


def _matroska_is_encrypted(file: BinaryIO, size: int) -> bool:
    for track in _elements_at(file, 0, size, _TO_TRACK_ENTRIES):
        for part in ebml_elements(file, track.body, track.end):
            if part.kind == _TRACK_TYPE:
                file.seek(part.body)
                if int.from_bytes(file.read(part.end - part.body), "big") != _VIDEO:
                    break
        else:
            if any(True for _ in _elements_at(file, track.body, track.end, _TO_ENCRYPTION)):
                return True
    return False


def _elements_at(file: BinaryIO, start: int, end: int, way: tuple[bytes, ...]) -> Iterator[Box]:
    """The elements at the end of a way of names, down from those between two offsets; one list of tracks only."""
    for element in ebml_elements(file, start, end):
        if element.kind != way[0]:
            continue
        inner_end = min(element.end or end, end)
        if len(way) == 1:
            yield Box(element.kind, element.body, inner_end)
        else:
            yield from _elements_at(file, element.body, inner_end, way[1:])
        if element.kind in _TO_TRACK_ENTRIES[:2]:
            return
