"""Whether a file ends before its container says: an interrupted copy, download or recording.

Decoding alone does not tell, since a cut file often plays without an error up to its end. Each container is asked in
its own way; docs/decoding.md lists them. MPEG-TS, MPEG-PS, NUT and bare codec streams (H.264, HEVC, MPEG video, MJPEG,
OBU) never say how long they are. Only heads of boxes, chunks and pages are read, and no more than `MAX_PARTS` of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from . import flat_containers as flat
from . import nested_containers as nested

# FFmpeg writes 2**30 into an AVI file that it cannot rewind, and 2**32 - 1 into IVF.
_UNBELIEVABLE_FRAMES = 1 << 30
_LEAST_FRAME_BYTES = 4

_BY_FIRST_BYTES: tuple[tuple[bytes, Callable[[BinaryIO, int], bool]], ...] = (
    (b"RIFF", nested.avi_is_cut),
    (b"\x1aE\xdf\xa3", nested.matroska_is_cut),
    (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel", nested.asf_is_cut),
    (b".RMF", nested.realmedia_is_cut),
    (b"FWS", nested.swf_is_cut),
    (b"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02\x01\x01\x02", nested.mxf_is_cut),
    (b"DKIF", flat.ivf_is_cut),
    (b"GIF8", flat.gif_is_cut),
    (b"\x89PNG\r\n\x1a\n", flat.apng_is_cut),
    (b"OggS", flat.ogg_is_cut),
    (b"YUV4MPEG2 ", flat.y4m_is_cut),
    (b"FLV\x01", flat.flv_is_cut),
    (b"\x1f\x07\x00\x3f", flat.dv_is_cut),
    (b"\x1f\x07\x00\xbf", flat.dv_is_cut),
    (b"\0\0\0\0\x01\xbc", flat.gxf_is_cut),
)


def is_cut_short(path: str | os.PathLike[str]) -> bool:
    """Whether the container promises more than the file holds; False where it promises nothing."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        if nested.is_mp4(head):
            return nested.mp4_is_cut(file, size)
        for first_bytes, is_cut in _BY_FIRST_BYTES:
            if head.startswith(first_bytes):
                return is_cut(file, size)
    return False


def believable_frames(frames: int, file_bytes: int) -> int:
    """The number of frames that a header states, or 0 where it cannot be true.

    Args:
        frames: the header's number; unfinished files and files written to a pipe hold a placeholder.
        file_bytes: length of the file in bytes, for a cut file as long as it was meant to be, as far as known.
    """
    believable = 0 < frames < _UNBELIEVABLE_FRAMES and frames <= file_bytes // _LEAST_FRAME_BYTES
    return frames if believable else 0
