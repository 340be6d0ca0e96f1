"""Names in the cache: `<cache>/<model slug>-<weights8>/<ab>/<safe stem>-<sha16>[.<sampling>].h5`.

A name is made only of hex and of letters, digits, "_" and "-", so that no video name can lead out of the cache. The
stem is for people only, never part of a look-up. An entry that does not hold every frame says so in its name
(`.fps2`, `.fps0p5`, `.every16`, `.window5-hop2p5`), so that no file has to be opened to know which frames it holds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import CacheError, UsageError
from ..common.hashing import is_sha256
from .sampling import Sampling

ENTRY_SUFFIX = ".h5"
MAX_STEM_CHARS = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_ENTRY_NAME = re.compile(
    r"(?P<stem>[A-Za-z0-9_-]{1,80})-(?P<sha16>[0-9a-f]{16})"
    r"(?:\.(?:fps(?P<fps>\d+(?:p\d+)?)|every(?P<every>\d+)|"
    r"window(?P<window>\d+(?:p\d+)?)-hop(?P<hop>\d+(?:p\d+)?)))?" + re.escape(ENTRY_SUFFIX),
    re.ASCII,
)
_MODEL_DIR = re.compile(r"(?P<slug>[A-Za-z0-9_-]+)-(?P<weights8>[0-9a-f]{8})", re.ASCII)


@dataclass(frozen=True)
class EntryName:
    """The parts of the file name of an entry.

    Attributes:
        stem: the video's name, reduced to safe characters; for people only.
        sha16: first 16 hex digits of the video's sha256.
        sampling: the frames that the entry holds.
    """

    stem: str
    sha16: str
    sampling: Sampling


@dataclass(frozen=True)
class ModelDir:
    """A folder of the cache: everything made with one set of weights.

    Attributes:
        name: the folder's name, "ViT-B-32-40d36571".
        slug: the model's name in safe characters, "ViT-B-32".
        weights8: first 8 hex digits of the sha256 of the weights.
    """

    name: str
    slug: str
    weights8: str

    def matches(self, model: str) -> bool:
        """Whether `model` ("ViT-B/32", "ViT-B-32" or the folder's name; "clap" for any CLAP) names this folder."""
        if model == CLAP:
            return is_clap(self.slug)
        return model == self.name or model_slug(canonical_model(model)) == self.slug


CLAP = "clap"
"""Models of sound are named by this, a colon and the checkpoint: "clap:laion/clap-htsat-unfused"."""


def is_clap(model: str) -> bool:
    """Whether a model's name, or its slug, is that of a model of sound."""
    return model == CLAP or model.startswith((f"{CLAP}:", f"{CLAP}-"))


# The names that OpenAI gives its models, and those of the same models on the Hugging Face hub.
_SPELLINGS = {
    "RN50": (),
    "RN101": (),
    "RN50x4": (),
    "RN50x16": (),
    "RN50x64": (),
    "ViT-B/32": ("clip-vit-base-patch32",),
    "ViT-B/16": ("clip-vit-base-patch16",),
    "ViT-L/14": ("clip-vit-large-patch14",),
    "ViT-L/14@336px": ("clip-vit-large-patch14-336",),
}


_LOCAL_DIR = "local-dir:"  # open_clip's prefix for a folder


def canonical_model(name: str) -> str:
    """OpenAI's own spelling of a model's name; a name that is not OpenAI's comes back unchanged.

    `ViT-B-32`, `vit-b/32` and `openai/clip-vit-base-patch32` are all `ViT-B/32`. Of a model in a folder only the
    folder's name is kept, so that it may be moved: `local-dir:/models/mine` is `local-dir:mine`.
    """
    if name.startswith(_LOCAL_DIR):
        return _LOCAL_DIR + Path(os.path.abspath(name.removeprefix(_LOCAL_DIR))).name  # noqa: PTH100 - of "..", too
    wanted = _fold(name)
    for known, others in _SPELLINGS.items():
        if wanted in {_fold(spelling) for spelling in (known, *others)}:
            return known
    return name


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("openai/"))


def model_slug(model: str) -> str:
    """The model's name in safe characters: "ViT-B/32" gives "ViT-B-32"."""
    return _safe(model) or "model"


def model_dir_name(model: str, weights_sha256: str) -> str:
    """Name of the folder of one set of weights: "ViT-B-32-40d36571".

    Raises:
        CacheError: if `weights_sha256` is not 64 lower-case hex digits.
    """
    return f"{model_slug(model)}-{checked_sha256(weights_sha256)[:8]}"


def parse_model_dir_name(name: str) -> ModelDir | None:
    """The parts of the name of a model's folder, or None if it is not one."""
    match = _MODEL_DIR.fullmatch(name)
    return ModelDir(name, match["slug"], match["weights8"]) if match else None


def entry_name(stem: str, sha256: str, sampling: Sampling) -> str:
    """File name of an entry: "holiday-0123456789abcdef.fps2.h5".

    Raises:
        CacheError: if `sha256` is not 64 lower-case hex digits.
    """
    safe_stem = _safe(stem)[:MAX_STEM_CHARS] or "video"
    suffix = "" if sampling.is_all else "." + str(sampling).replace("=", "").replace(".", "p").replace(",", "-")
    return f"{safe_stem}-{checked_sha256(sha256)[:16]}{suffix}{ENTRY_SUFFIX}"


def parse_entry_name(name: str) -> EntryName | None:
    """The parts of the file name of an entry, or None if `entry_name` gives no such name."""
    match = _ENTRY_NAME.fullmatch(name)
    if match is None:
        return None
    every = int(match["every"]) if match["every"] else None
    try:
        sampling = Sampling(_number(match["fps"]), every, _number(match["window"]), _number(match["hop"]))
    except UsageError:
        return None
    return EntryName(match["stem"], match["sha16"], sampling)


def entry_folder(cache_dir: Path, model_dir: str, sha256: str) -> Path:
    """Folder of the entries of one video, `<cache>/<model_dir>/<ab>`."""
    return cache_dir / model_dir / checked_sha256(sha256)[:2]


def checked_sha256(sha256: str) -> str:
    """Return `sha256`.

    Raises:
        CacheError: if it is not 64 lower-case hex digits.
    """
    if not is_sha256(sha256):
        raise CacheError(f"{sha256!r} is not a sha256 (64 lower-case hex digits)")
    return sha256


def _number(text: str | None) -> float | None:
    """The number that a name spells with "p" for its point."""
    return float(text.replace("p", ".")) if text else None


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text).strip("-")
