"""What open_clip's registry knows of an architecture: its published weights, their activation and preprocessing."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator
from typing import Any

from ...cache.common.errors import UsageError
from ..video.resize import ResizeRule

ARCH = "open_clip:"

_OPTIONS = {"mean": "mean", "std": "std", "resize": "resize_mode", "interpolation": "interpolation"}
"""Of preprocessing, after the name of an architecture, and what open_clip calls them."""


def registry(open_clip: Any) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(architecture, tag, `--model`, entry of the registry) of all that open_clip publishes."""
    for arch, tag in open_clip.list_pretrained():
        yield arch, tag, f"{ARCH}{arch}/{tag}", open_clip.get_pretrained_cfg(arch, tag)


def architecture(open_clip: Any, model: str) -> tuple[str, str]:
    """(ARCH, TAG) of `open_clip:ARCH/TAG`; empty where the name has none.

    Raises:
        UsageError: if open_clip does not know it.
    """
    if not model.startswith(ARCH):
        return "", ""
    arch, _, tag = model.removeprefix(ARCH).partition(",")[0].partition("/")
    if open_clip.get_model_config(arch) is None:
        near = ", ".join(difflib.get_close_matches(arch, open_clip.list_models(), 3, 0.4)) or "ViT-B-32"
        raise UsageError(f"open_clip has no architecture {arch!r}; it has, for example, {near}")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag and not open_clip.is_pretrained_cfg(arch, tag):
        raise UsageError(f"open_clip has no weights {tag!r} for {arch}; it has {', '.join(tags) or 'none'}")
    return arch, tag


def check_activation(open_clip: Any, arch: str, entry: dict[str, Any]) -> None:
    """Refuse registered weights under an architecture with the other activation.

    Raises:
        UsageError: if the activations differ; its remedy names the right architecture.
    """
    if right := right_names(open_clip, arch, entry):
        trained, computes = ("QuickGELU", "GELU") if entry.get("quick_gelu") else ("GELU", "QuickGELU")
        raise UsageError(
            f"These weights were trained with {trained}, but open_clip's {arch} computes {computes}, and their "
            f"features would be wrong without any sign of it",
            f"use --model {right[0]}",
        )


def preprocessing_of(open_clip: Any, model: str, sha256: str) -> dict[str, Any]:
    """How pictures are prepared for `open_clip:…`, for what differs from open_clip's default, which is CLIP's.

    As the name says, else as the registry says of the tag, or of a file that it knows by its checksum. Without these
    the default holds only for architectures that were never published with anything else.

    Raises:
        UsageError: if nothing says it.
    """
    arch, tag = architecture(open_clip, model)
    given = _given_preprocessing(model)
    if tag:
        return {**open_clip.get_pretrained_cfg(arch, tag), **given}
    if given or (given := dict(registered_as(open_clip, sha256))):
        return given
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tags and all(_is_default(open_clip, open_clip.get_pretrained_cfg(arch, one)) for one in tags):
        return {}
    trained_from = f"the published weights that they were trained from, {ARCH}{arch}/TAG ({', '.join(tags)}), or "
    raise UsageError(
        f"Nothing says how pictures are prepared for weights of {ARCH}{arch}",
        f"name {trained_from if tags else ''}the preprocessing, such as {ARCH}{arch},resize=squash,mean=0.5,std=0.5 "
        "(docs/models.md)",
    )


def _given_preprocessing(model: str) -> dict[str, Any]:
    """What the name of a model says after its first comma, in open_clip's words.

    Raises:
        UsageError: if it is not `mean`, `std`, `resize` or `interpolation` with a value of that kind.
    """
    _, _, options = model.partition(",")
    given = dict(option.partition("=")[::2] for option in options.split(",") if option)
    if unknown := [name for name in given if name not in _OPTIONS]:
        raise UsageError(f"The model {model!r} has the option {unknown[0]!r}", f"known are {', '.join(_OPTIONS)}")
    ResizeRule(given.get("resize", "shortest"), given.get("interpolation", "bicubic"))  # checks them
    return {_OPTIONS[name]: _channels(text) if name in ("mean", "std") else text for name, text in given.items()}


def _channels(text: str) -> tuple[float, ...]:
    """One number for all channels, or three: "0.5", "0.48:0.46:0.41"."""
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise UsageError(f"{text!r} is not one number, nor three with colons between", "such as 0.5 or 0.48:0.46:0.41")
    return tuple(values * (3 // len(values)))


def _is_default(open_clip: Any, entry: dict[str, Any]) -> bool:
    default = dataclasses.asdict(open_clip.transform.PreprocessCfg())
    return all(_as_tuple(entry[name]) == default[name] for name in _OPTIONS.values() if name in entry)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def right_names(open_clip: Any, arch: str, entry: dict[str, Any]) -> list[str]:
    """Names of architectures with the activation of registered weights; empty where `arch` has it.

    Empty too where the registry contradicts the only architecture that it lists the weights under: that one is right.
    """
    wanted = bool(entry.get("quick_gelu"))
    if not entry or wanted == _has_quick_gelu(open_clip, arch):
        return []
    same = [(other, name) for other, _, name, known in registry(open_clip) if _is_same(known, entry)]
    return [name for other, name in same if _has_quick_gelu(open_clip, other) == wanted]


def _has_quick_gelu(open_clip: Any, arch: str) -> bool:
    return bool(open_clip.get_model_config(arch).get("quick_gelu"))


def _is_same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two entries are the same file: architectures with and without QuickGELU list it both."""
    return any(a.get(key) and a.get(key) == b.get(key) for key in ("url", "hf_hub"))


def registered_as(open_clip: Any, sha256: str) -> dict[str, Any]:
    """The registry's entry of a file; it has checksums, or their first 8 digits, in most of its URLs."""
    for _, _, _, entry in registry(open_clip):
        url = entry.get("url") or ""
        if f"/{sha256}/" in url or f"-{sha256[:8]}." in url:
            return entry
    return {}
