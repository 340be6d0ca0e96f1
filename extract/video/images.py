"""Read picture files as upright 8-bit RGB: which are opened, how values become 0 to 255, what errors say.

docs/decoding.md has the rules for people.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.common.errors import ClipcacheError, MediaError, NoLibraryError, NotReadNowError
from ...cache.common.media_types import has_video_signature, still_format
from ...cache.common.quoting import quoted
from .resize import Pixels

# The formats of the suffixes in `media_types`; Pillow would go by the content, and start Ghostscript for PostScript.
_FORMATS = ("AVIF", "BMP", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """A picture file as (H, W, 3) uint8, upright by its EXIF orientation; of several pictures or pages the first.

    Raises:
        MediaError: if it is missing, damaged, not a picture or too large, or nothing says which of its values is white.
        NoLibraryError: if it is HEIC or AVIF, and the package that reads it is not installed.
    """
    from PIL import Image

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what does not keep it from reading the picture
            with Image.open(path, formats=_formats(path)) as image:
                return _as_rgb(image, path)
    except ClipcacheError:
        raise
    except Exception as error:
        raise _refusal(path, error) from error


def _formats(path: Path) -> list[str]:
    """The formats that can be read here; HEIC is registered when the first file of it is met."""
    from PIL import Image

    if still_format(path) == "HEIC":
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _as_rgb(image: Any, path: Path) -> Pixels:
    """Upright RGB; transparency is dropped, as in CLIP's own preprocessing, so that the colours below it show."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if not image.mode.startswith(("I", "F")):
        return np.array(upright.convert("RGB"))
    # Pillow would clip these to 255, and leaves inverted ones as they are.
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(upright)
    if image.mode.startswith("I;16") or image.format == "PNG":  # older versions of Pillow give 16-bit PNG as 32 bits
        white = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
    else:
        white = 255 if image.mode == "I" else 1
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= white):
            raise MediaError(
                f"Cannot read the image {quoted(path)}: its values go from {low:g} to {high:g}, and nothing says which "
                "of them is white",
                "save it with 8 or 16 bits, or as float from 0 to 1",
            )
    grey = np.rint(values * (255.0 / white)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2)


def _refusal(path: Path, error: Exception) -> MediaError:
    """What to say of a picture over which Pillow raised."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, OSError) and error.errno is not None:  # the disk's: Pillow's own have no number
        return NotReadNowError(f"Cannot read the image {quoted(path)}: {error.strerror}", "check the path and the disk")

    if isinstance(error, Image.DecompressionBombError):
        pixels, limit = re.findall(r"\d+", str(error))[:2]
        return MediaError(
            f"The image {quoted(path)} is too large: {pixels} pixels, where over {limit} are taken for a "
            "decompression bomb",
            "make it smaller, or cut it into parts",
        )
    form = still_format(path) if isinstance(error, UnidentifiedImageError) else ""
    problem = f"Cannot read the image {quoted(path)}"
    if form == "HEIC" and "HEIF" not in Image.OPEN:
        return NoLibraryError(f"{problem}: it is HEIC", "install pillow-heif: pip install 'clipcache[heic]'")
    if form == "AVIF" and not _reads_avif():
        return NoLibraryError(f"{problem}: it is AVIF", "install Pillow 11.3 or newer: pip install -U Pillow")
    if has_video_signature(path):
        return MediaError(f"{problem}: its content is a video's", "give it the suffix of one, such as .mp4")
    reason = getattr(error, "strerror", None) or "damaged, not a picture, or of a kind that Pillow cannot read"
    return MediaError(f"{problem}: {reason}")


def _reads_avif() -> bool:
    from PIL import features

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a version that has never heard of it
        return bool(features.check("avif"))
