"""Open media files with PyAV so that nothing but the named file is ever read.

A playlist or a concat script makes FFmpeg open other files and URLs, so a file is handed over as a Python file object
(no protocol can apply to it, and names of any bytes work), and only container formats that hold their own frames may
be probed.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from ...cache.common.errors import MediaError, NotReadNowError
from ...cache.common.media_types import still_format
from ...cache.common.quoting import quoted
from .file_checks.encryption import is_encrypted

# Demuxers that read one self-contained file. Absent on purpose: hls, dash, concat, image2, sdp, rtsp, mlv, vobsub and
# every other format that refers to further files or to the network; and those that take nearly any bytes for theirs.
_COMMON_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,asf_o,ogg,gif,apng,nut,mxf,ivf,"
    "h264,hevc,vvc,obu,av1,m4v,mjpeg,mjpeg_2000,dv,rm,swf,vob,yuv4mpegpipe,dirac,vc1,wtv,gxf"
)
# Of games, surveillance cameras, old computers and television sets.
_RARE_FORMATS = (
    "4xm,anm,apv,argo_brp,avs,bethsoftvid,bfi,bink,c93,cavsvideo,cdxl,cine,dfa,dhav,dnxhd,dsicin,dxa,ea,film_cpk,flic,"
    "gdv,hnm,idcin,ifv,ipmovie,iv8,ivr,jv,kux,lvf,lxf,mm,mods,moflex,mtv,mv,mxg,nc,nsv,nuv,paf,pdv,pmp,psxstr,pva,rl2,"
    "roq,rpl,ser,siff,smjpeg,smk,smush,thp,tiertexseq,tmv,ty,usm,vc1test,vividas,vivo,vmd,wc3movie,wsvqa,xmv,yop"
)
CONTAINER_FORMATS = f"{_COMMON_FORMATS},{_RARE_FORMATS}"
# Further ones that hold sound alone.
SOUND_FORMATS = f"{CONTAINER_FORMATS},wav,w64,flac,mp3,aac"
_READ_BUFFER_BYTES = 1 << 20

av.logging.set_level(av.logging.PANIC)


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """Open a video for demuxing and choose its main video stream.

    Yields:
        `(container, stream)` of PyAV; the stream that FFmpeg calls best, cover pictures left out.

    Raises:
        MediaError: the file is missing, empty, not a video, an image, encrypted, or has no video stream.
    """
    if still := still_format(Path(path)):  # FFmpeg would open it, and show one tile of it
        raise MediaError(
            f"{quoted(path)} is not a video: its content is an image ({still})", f"give it the suffix .{still.lower()}"
        )
    with open_media(path, CONTAINER_FORMATS, "video") as container:
        stream = main_video_stream(container)
        if stream is None:
            raise MediaError(f"{quoted(path)} {_what_instead(container)}", "leave it out")
        if is_encrypted(container, stream, path):
            raise MediaError(f"The video of {quoted(path)} is encrypted", "decrypt it first")
        yield container, stream


@contextmanager
def open_media(path: str | os.PathLike[str], formats: str, what: str) -> Iterator[Any]:
    """Open a file for demuxing.

    Args:
        path: the file.
        formats: FFmpeg's names of the container formats that may be probed, between commas.
        what: what the file should be, for the sentence that says it is not: "video".

    Yields:
        The `container` of PyAV.

    Raises:
        MediaError: the file is empty, or of none of the formats.
        NotReadNowError: it cannot be read: it is not there, or the disk or the permissions fail.
    """
    try:
        file = _MediaFile(path)  # closed below, after the container
    except OSError as error:
        raise NotReadNowError(
            f"Cannot read {quoted(path)}: {error.strerror}", "check the path and its permissions"
        ) from error
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            raise MediaError(f"{quoted(path)} is empty (0 bytes)", "copy or download it again")
        try:
            container = av.open(
                file,
                mode="r",
                buffer_size=_READ_BUFFER_BYTES,
                metadata_errors="replace",
                options={"protocol_whitelist": "none", "format_whitelist": formats},
            )
        except Exception as error:  # whatever PyAV makes of a damaged file, the file is at fault
            if is_from_disk(error):
                raise NotReadNowError(f"Cannot read {quoted(path)}: {_reason(error)}", "check its disk") from error
            if isinstance(error, MemoryError):
                raise NotReadNowError(
                    f"Not enough memory to open {quoted(path)}", "give it more, and try again"
                ) from error
            raise MediaError(
                f"{quoted(path)} is not a {what} that FFmpeg can open ({_reason(error)}); "
                "it may be cut short or of another type"
            ) from error
        with container:
            yield container


def is_from_disk(error: Exception) -> bool:
    """Whether an error is that of reading the file, and not of FFmpeg with what was read."""
    return (
        isinstance(error, OSError) and not isinstance(error, av.FFmpegError) and error.errno not in (None, errno.EINVAL)
    )


class _MediaFile(io.FileIO):
    """A file whose `seek` answers as a C library's would: -1 for a place that cannot be.

    PyAV ends the reading of a damaged file with the exception of a seek that FFmpeg could do without.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return -1


def main_video_stream(container: Any) -> Any:
    """The stream FFmpeg would show, cover pictures left out; None where there is none."""
    try:
        stream = container.streams.best("video")
    except IndexError:  # PyAV's answer to a container whose best stream is none it lists
        return None
    return None if stream is None or stream.codec_context is None or _is_cover(stream) else stream


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _what_instead(container: Any) -> str:
    """What a file without video holds."""
    if any(stream.type == "video" and _is_cover(stream) for stream in container.streams):
        return "holds only a cover picture and no video"
    kinds = sorted({stream.type for stream in container.streams}) or ["none"]
    return f"has no video stream (streams: {', '.join(kinds)})"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
