"""What kind of media a file is: by its suffix (lower case, with its dot), else by its first bytes."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

AUDIO_SUFFIXES = frozenset({".flac", ".m4a", ".mp3", ".ogg", ".wav"})

# Suffixes that other kinds of files use too (.mm, .ser, .str, .nc) are left out, whatever FFmpeg reads.
VIDEO_SUFFIXES = frozenset(
    ".264 .265 .3g2 .3gp .4xm .amv .asf .avi .bik .dav .divx .dv .dxa .f4v .flc .fli .flv .gif .gxf .h264 .h265 .hevc "
    ".ivf .ivr .m1v .m2p .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .nsv .nut "
    ".nuv .obu .ogm .ogv .pva .rm .rmvb .roq .smk .thp .ts .viv .vob .vqa .webm .wmv .wtv .xmv .y4m .yop".split()
)

_SNIFF_BYTES = 1024
# Matroska, FLV, Ogg, MPEG-PS, MPEG-1/2, GIF, IVF, ASF.
_SIGNATURES = (
    b"\x1aE\xdf\xa3",
    b"FLV\x01",
    b"OggS",
    b"\0\0\x01\xba",
    b"\0\0\x01\xb3",
    b"GIF8",
    b"DKIF",
    b"0&\xb2u\x8ef\xcf",
)


def is_video(path: Path) -> bool:
    """Whether a file found in a folder is a video: by its suffix, and if that is unknown by its first bytes."""
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return suffix != ".ts" or not _is_text(path)
    return suffix not in IMAGE_SUFFIXES and _looks_like_video(_first_bytes(path))


def is_image(path: Path) -> bool:
    """Whether a file found in a folder is an image: by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_audio(path: Path) -> bool:
    """Whether a file found in a folder is sound: by its suffix."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def _first_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a named pipe would wait for a writer
            return b""
        with path.open("rb") as file:
            return file.read(_SNIFF_BYTES)
    except OSError:
        return b""


def _is_text(path: Path) -> bool:
    """TypeScript sources share the suffix of MPEG transport streams."""
    return b"\0" not in _first_bytes(path)


def _looks_like_video(head: bytes) -> bool:
    """Signatures of the containers that hold videos; see the formats' own specifications."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat")
        or head.startswith(_SIGNATURES)
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )
