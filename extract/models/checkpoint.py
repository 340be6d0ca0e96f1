"""Weights files of every form as tensors by name in OpenAI's layout: opened, unwrapped, and converted where needed.

Checkpoints come as safetensors, as state dicts of torch, bare or inside a dictionary of what training kept, and with a
prefix before each name (`module.visual.conv1.weight`). What cannot be a whole CLIP is refused, saying why.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.common.errors import ModelError
from ...cache.common.quoting import first_line, one_line, quoted
from . import hugging_face
from .hugging_face import OPENAI_TOWERS, Towers

WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Weights files in a folder as `transformers` saves it, in the order in which it looks for them."""
SIZES = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives hold beside the weights."""

_OPENAI_ANCHOR = "visual.conv1.weight"  # of every image encoder of OpenAI's
_WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # of torch, at any depth
_AVERAGES = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)", re.IGNORECASE)  # over training: meant to be used
_LORA = re.compile(r"\.lora_|lora_(A|B|up|down|magnitude)")
_SHOWN = 3

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A CLIP's weights: tensors by OpenAI's names, and what their shapes do not say."""

    state: Tensors
    towers: Towers = OPENAI_TOWERS


def weights_file(path: Path) -> Path:
    """The weights file that `--weights` means: itself, or that of a folder as `transformers` saves it.

    Raises:
        ModelError: if there is none, or it comes in several parts.
    """
    if not path.is_dir():
        return path
    for name in WEIGHTS_NAMES:
        if (path / name).is_file():
            return path / name
        if (path / f"{name}.index.json").is_file():
            raise ModelError(f"The weights in {quoted(path)} are split into several files", "save them as one")
    raise ModelError(f"The folder {quoted(path)} holds neither {' nor '.join(WEIGHTS_NAMES)}", "name a weights file")


def read_checkpoint(path: Path, *, trust: bool, say: Callable[[str], None]) -> Checkpoint:
    """Read a weights file.

    Args:
        path: .safetensors, .npz, a state dict of torch, or a TorchScript archive.
        trust: open a TorchScript archive; such a file can run code.
        say: called with a sentence where one of several readings is taken.

    Raises:
        ModelError: if it is damaged, holds more than tensors, or does not hold a whole CLIP.
    """
    return in_openai_layout(_read(path, trust), path, say)


def in_openai_layout(content: Mapping[str, Any], path: Path, say: Callable[[str], None]) -> Checkpoint:
    """Find the CLIP in what a file holds; see `read_checkpoint`."""
    _refuse_open_clips(content, path)
    held = {name: tensors for name, tensors in _state_dicts(content) if _prefixes(tensors)}
    if not held:
        raise _no_clip(max((tensors for _, tensors in _state_dicts(content)), key=len, default={}), path)
    tensors = _without_prefix(_one_of(held, path, say), path, say)
    if hugging_face.ANCHOR in tensors:
        return Checkpoint(*hugging_face.convert(tensors, path, say))
    return Checkpoint(tensors)


def find_tensors(path: Path, names: Collection[str], *, trust: bool, say: Callable[[str], None]) -> Tensors | None:
    """Find the weights of a model with these names anywhere in a file, behind any key and prefix.

    Args:
        path: as in `read_checkpoint`, likewise `trust` and `say`.
        names: of all values of the model.
        trust: see there.
        say: see there.

    Returns:
        Tensors by `names`; None if they are not all there.

    Raises:
        ModelError: if the file cannot be read.
    """
    held = {}
    first = min(names)
    for where, tensors in _state_dicts(_read(path, trust)):
        for prefix in (key.removesuffix(first) for key in tensors if key.endswith(first)):
            if all(f"{prefix}{name}" in tensors for name in names):
                held[f"{where}.{prefix}"] = {name: tensors[f"{prefix}{name}"] for name in names}
    return _one_of(held, path, say) if held else None


def misfit(error: Exception) -> str:
    """Which values weights lack or have too many, from torch's report on a state dict that does not fit a model."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    report = str(error)
    said = []
    for kind, words in (("Missing", "lacks"), ("Unexpected", "has in excess")):
        if found := re.search(rf"{kind} key\(s\) in state_dict: (.*)", report):
            names = re.findall('"([^"]+)"', found[1])
            said.append(f"{words} {_few(names)}")
    if wrong := re.findall(r"size mismatch for (\S+):", report):
        said.append(f"has another shape of {_few(wrong)}")
    return f"it {', and '.join(said)}" if said else first_line(error)


def _one_of(held: Mapping[str, Tensors], path: Path, say: Callable[[str], None]) -> Tensors:
    """Choose among several sets of weights: an average over training first."""
    name = next((name for name in held if _AVERAGES.search(name)), next(iter(held)))
    if len(held) > 1:
        others = " and ".join(repr(one_line(other or "the file itself")) for other in held if other != name)
        taken = one_line(name or "the file itself")
        say(f"{quoted(path)} holds several sets of weights: those of {taken!r} are taken, not those of {others}.")
    return held[name]


def _state_dicts(content: Mapping[str, Any], name: str = "") -> list[tuple[str, Tensors]]:
    """(where, tensors by name) of each dictionary that holds tensors: the outermost first."""
    import torch

    tensors = {_WRAPPERS.sub("", str(key)): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    inner = [(str(key), value) for key, value in content.items() if isinstance(value, Mapping)]
    below = [found for key, value in inner for found in _state_dicts(value, f"{name}.{key}" if name else key)]
    return [(name, tensors), *below] if tensors else below


def _prefixes(tensors: Tensors) -> list[str]:
    """What stands before the names of each CLIP, or image encoder of one."""
    found = []
    for anchor in (_OPENAI_ANCHOR, hugging_face.ANCHOR):
        found += [key.removesuffix(anchor) for key in tensors if key == anchor or key.endswith(f".{anchor}")]
    return found


def _without_prefix(tensors: Tensors, path: Path, say: Callable[[str], None]) -> Tensors:
    _refuse_lora(tensors, path)
    prefixes = _prefixes(tensors)
    if len(prefixes) > 1:
        names = ", ".join(repr(one_line(prefix)) for prefix in prefixes)
        raise ModelError(f"{quoted(path)} holds several CLIPs, under {names}", "save the state dict of one")
    (prefix,) = prefixes
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if left := [key for key in tensors if not key.startswith(prefix)]:
        say(f"{quoted(path)} holds a CLIP and other values, which are left out: {_few(left)}.")
    if not any(key.endswith("token_embedding.weight") for key in own):
        raise ModelError(
            f"{quoted(path)} holds the image encoder of a CLIP without the text encoder", "save the whole model"
        )
    return own


def _refuse_lora(tensors: Tensors, path: Path) -> None:
    if any(_LORA.search(key) for key in tensors):
        raise ModelError(
            f"{quoted(path)} holds a LoRA, which is trained beside a model's weights and not part of them",
            "merge it into the model and save that (peft: model.merge_and_unload())",
        )


def _refuse_open_clips(content: Mapping[str, Any], path: Path) -> None:
    """open_clip's training keeps these three; its architectures mostly compute another activation than OpenAI's."""
    if {"epoch", "name", "state_dict"} <= content.keys():
        raise ModelError(
            f"{quoted(path)} seems to be from open_clip's training, whose activation may differ from OpenAI's",
            "name its architecture: --model open_clip:ARCH --weights FILE",
        )


def _no_clip(tensors: Tensors, path: Path) -> ModelError:
    if not tensors:
        return ModelError(f"The weights file {quoted(path)} is not a state dict of tensors", "save model.state_dict()")
    _refuse_lora(tensors, path)
    return ModelError(
        f"{quoted(path)} does not hold the weights of a CLIP: it lacks {_OPENAI_ANCHOR!r} (OpenAI's layout) and "
        f"{hugging_face.ANCHOR!r} (Hugging Face's), and has {_few(list(tensors))}",
        "save the state dict of the whole model; for other models of open_clip, name --model open_clip:ARCH/TAG",
    )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(one_line(name)) for name in names[:_SHOWN]) + more


def _read(path: Path, trust: bool) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    if path.suffix == ".npz":
        return _load_npz(path)
    if _is_torchscript(path):
        if not trust:
            raise ModelError(
                f"{quoted(path)} is a TorchScript archive, which can run code when opened, and not one that OpenAI "
                "published",
                "pass --trust-weights if you know where it comes from",
            )
        return load_torchscript(path)
    return _load_pickled(path)


def load_safetensors(path: Path) -> Tensors:
    """Tensors of a .safetensors file.

    Raises:
        ModelError: if it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: Tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"The weights file {quoted(path)} is damaged or not safetensors: {error}") from error
    return state


def load_torchscript(path: Path) -> Tensors:
    """Tensors of a TorchScript archive, which can run code when opened.

    Raises:
        ModelError: if it cannot be opened.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch retires TorchScript; a copy is kept without it
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"The TorchScript archive {quoted(path)} cannot be opened", "download it again") from error
    return {name: tensor for name, tensor in state.items() if name not in SIZES}


def _load_npz(path: Path) -> Tensors:
    import numpy as np
    import torch

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except Exception as error:
        raise ModelError(f"The weights file {quoted(path)} is damaged or not an .npz of arrays") from error


def _load_pickled(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"The weights file {quoted(path)} is damaged or holds more than tensors",
            "save a plain state dict (torch.save(model.state_dict(), path)) or safetensors",
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"The weights file {quoted(path)} is not a state dict of tensors", "save model.state_dict()")
    return content


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives are zip files with a folder of code; state dicts have none."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False  # no archive, or a damaged one: the loader says so
