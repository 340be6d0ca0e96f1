"""What kind of media a file is: by its suffix (lower case, with its dot), else by its first bytes."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .heic .heif .hif .jfif .jpe .jpeg .jpg .png .tif .tiff .webp".split()  # .hif: HEIC of cameras
)

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
# JPEG, PNG. Not TIFF, whose signature the raw files of many cameras share.
_IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

# Major brands of ISO base media files (`ftyp`), which are not videos by themselves. Image sequences (avis, hevc, hevx,
# msf1) are not among the stills: they have a track, which FFmpeg reads as it reads a video's.
_STILL_BRANDS = (b"avif", b"heic", b"heim", b"heis", b"heix", b"mif1", b"mif2")
_OTHER_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"crx ")  # sound; raw files of Canon's cameras


def is_video(path: Path) -> bool:
    """Whether a file found in a folder is a video: by its suffix, and if that is unknown by its first bytes."""
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return suffix != ".ts" or not _is_text(path)
    return suffix not in IMAGE_SUFFIXES and has_video_signature(path)


def is_image(path: Path) -> bool:
    """Whether a file is an image: by its suffix, and if it has none by its first bytes; hidden files count too.

    A file with an unknown suffix is not one, whatever it holds: many of these are backups ("a.jpg_original").
    """
    if path.suffix:
        return path.suffix.lower() in IMAGE_SUFFIXES
    head = _first_bytes(path)
    return head.startswith(_IMAGE_SIGNATURES) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP") or bool(_still(head))


def is_audio(path: Path) -> bool:
    """Whether a file found in a folder is sound: by its suffix."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def still_format(path: Path) -> str:
    """Which of "HEIC" and "AVIF" a still image is by its first bytes, whatever its suffix; "" for all other files.

    FFmpeg opens such a file as a video; of an image in tiles it makes several streams, and would show one tile.
    """
    return _still(_first_bytes(path))


def has_video_signature(path: Path) -> bool:
    """Whether the first bytes are those of a container that holds videos; see the formats' own specifications."""
    head = _first_bytes(path)
    if head[4:8] == b"ftyp":
        return head[8:12] not in _OTHER_BRANDS and not _still(head)
    return (
        head[4:8] in (b"moov", b"mdat")
        or head.startswith(_SIGNATURES)
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _first_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a named pipe would wait for a writer
            return b""
        with path.open("rb") as file:
            return file.read(_SNIFF_BYTES)
    except OSError:
        return b""


def _still(head: bytes) -> str:
    if head[4:8] != b"ftyp" or head[8:12] not in _STILL_BRANDS:
        return ""
    compatible = head[16 : int.from_bytes(head[:4], "big")]
    return "AVIF" if head[8:12] == b"avif" or b"avif" in compatible else "HEIC"


def _is_text(path: Path) -> bool:
    """TypeScript sources share the suffix of MPEG transport streams."""
    return b"\0" not in _first_bytes(path)
