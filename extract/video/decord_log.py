"""What decord's FFmpeg says while it decodes: the only sign of damage that it conceals.

decord passes on neither FFmpeg's errors nor its flags of corrupt frames, and scales pictures whose size changes to that
of the first. FFmpeg logs all three. A sound segment gives no message above the level "verbose", but for those below.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_INFO = 32  # AV_LOG_INFO: concealed macroblocks are told at this level
_MAX_MESSAGES = 100
_HARMLESS = (
    b"deprecated pixel format used",  # swscale, of full-range video: handled
    b"mmco: unref short failure",  # H.264 that begins at an open GOP lets go of references that it never had
    b"read_timestamp failed",  # the NUT demuxer, when decord asks for the length
    b"Changing video frame properties",  # the next line says which: below
)
_PROPERTIES = re.compile(
    rb"filter context - w: (\d+) h: (\d+) fmt: (-?\d+).*incoming frame - w: (\d+) h: (\d+) fmt: (-?\d+)"
)
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class DecordLog:
    """Keeps the messages that tell of trouble.

    Args:
        library: decord's libavutil.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self.messages: list[bytes] = []

    def on_message(self, source: Any, level: int, text: bytes | None, values: Any) -> None:
        """FFmpeg's callback; called from decoding threads, for messages of every level."""
        if level > _INFO or not text or text.startswith(_HARMLESS) or len(self.messages) >= _MAX_MESSAGES:
            return
        line = ctypes.create_string_buffer(400)
        self._library.av_log_format_line2(
            ctypes.c_void_p(source),
            level,
            text,
            ctypes.c_void_p(values),
            line,
            len(line),
            ctypes.byref(ctypes.c_int(0)),
        )
        properties = _PROPERTIES.match(line.value)
        # Colour spaces may differ from what decord told its filters: it converts by the frame's. Sizes must not.
        if properties is None or properties.groups()[:3] != properties.groups()[3:]:
            self.messages.append(line.value.strip())


@contextlib.contextmanager
def watched(decord: Any) -> Iterator[DecordLog]:
    """Listen to the FFmpeg of decord; to nothing where `can_watch` is False."""
    library = _libavutil(Path(decord.__file__).parent)
    log = DecordLog(library)
    if library is None:
        yield log
        return
    callback = _CALLBACK(log.on_message)
    library.av_log_set_callback(callback)
    try:
        yield log
    finally:
        library.av_log_set_callback(library.av_log_default_callback)


def can_watch(decord: Any) -> bool:
    """Whether the libavutil that decord uses can be found."""
    return _libavutil(Path(decord.__file__).parent) is not None


@functools.lru_cache(maxsize=1)
def _libavutil(package: Path) -> Any:
    """The copy that comes in decord's wheel: beside the package (Linux) or inside it (macOS)."""
    folders = (package.parent / "decord2.libs", package.parent / "decord.libs", package / ".dylibs")
    for path in (path for folder in folders for path in sorted(folder.glob("libavutil*"))):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(path))
    return None
