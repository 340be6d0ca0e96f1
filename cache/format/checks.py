"""Whether the attributes of an entry make sense: `schema` looks at their types, this module at their values.

An entry is opened only if they do, so that one with a wrong value costs itself and not the question.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..common.errors import EntryError, UsageError
from ..common.hashing import is_sha256
from ..common.quoting import quoted
from .names import model_dir_name, parse_entry_name, parse_model_dir_name
from .sampling import Sampling
from .schema import EXTRACT_AGAIN, SOURCE_KINDS, EntryAttributes

_SHOWN_CHARS = 80


def _is_sampling(text: str) -> bool:
    try:
        Sampling.parse(text)
    except UsageError:
        return False
    return True


def _between(low: float, high: float) -> Callable[[float], bool]:
    return lambda value: low <= value <= high  # NaN is not


_COUNT, _PIXELS = _between(0, 2**62), _between(0, 2**31)
_IS_VALID: dict[str, Callable[[Any], bool]] = {
    "source_kind": SOURCE_KINDS.__contains__,
    "video_sha256": is_sha256,
    "video_bytes": _COUNT,
    "fps": lambda value: value == 0 or 1e-6 <= value <= 1e6,
    "duration_s": _between(0, 1e9),
    "width": _PIXELS,
    "height": _PIXELS,
    "rotation": (0, 90, 180, 270).__contains__,
    "frames_expected": _COUNT,
    "frames_decoded": _between(1, 2**62),
    "model": lambda value: bool(value.strip()),
    "weights_sha256": is_sha256,
    "embed_dim": _between(1, 2**31),
    "input_size": _PIXELS,
    "logit_scale": lambda value: 0 < value <= 1e9,
    "logit_bias": _between(-1e9, 1e9),
    "sampling": _is_sampling,
    "frames_corrupt": _between(-1, 2**62),
}
"""The other attributes are text that is only shown, or of two values."""


def attribute_problem(attributes: EntryAttributes) -> str | None:
    """What is wrong with the values, as words that follow "has"; None if nothing."""
    for name, is_valid in _IS_VALID.items():
        value = getattr(attributes, name)
        if not is_valid(value):
            return f"the {name} {repr(value)[:_SHOWN_CHARS]}, which cannot be"
    return None


def check_identity(path: Path, attributes: EntryAttributes) -> None:
    """Refuse attributes that make no sense, or are of another entry than its place says.

    Within a cache, also a packed one, an entry is at `<model folder>/<ab>/<entry>.h5`; any other path says nothing.

    Raises:
        EntryError: saying which.
    """
    problem = attribute_problem(attributes)
    if problem := f"has {problem}" if problem else _place_problem(path, attributes):
        raise EntryError(f"{quoted(path)} {problem}", EXTRACT_AGAIN)


def _place_problem(path: Path, attributes: EntryAttributes) -> str | None:
    name, folder = parse_entry_name(path.name), path.absolute().parent
    if name is None or name.sha16[:2] != folder.name or parse_model_dir_name(folder.parent.name) is None:
        return None
    if not attributes.video_sha256.startswith(name.sha16):
        return "has the name of another video than it holds"
    if name.sampling != Sampling.parse(attributes.sampling):
        return f"is named {name.sampling} but holds {attributes.sampling}"
    held = model_dir_name(attributes.model, attributes.weights_sha256)
    return None if folder.parent.name == held else f"lies in the folder of another model than its own, {held}"
