"""CLIP as Hugging Face's `transformers` saves it, in OpenAI's layout.

The arithmetic is the same; the names differ, queries, keys and values are three matrices instead of one, and
projections are transposed. What the weights do not say is in the `config.json` beside them: the activation, QuickGELU
or GELU, and the number of attention heads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...cache.common.errors import ModelError
from ...cache.common.quoting import one_line, quoted
from ...cache.common.reading import read_bounded
from .openai_fast import MEAN, STD

ANCHOR = "vision_model.embeddings.patch_embedding.weight"
"""A value that every CLIP in this layout has."""

_NAMES = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    ANCHOR: "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",  # its own spelling
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
}
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_BLOCK = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_BLOCKS = {"vision": "visual.transformer.resblocks", "text": "transformer.resblocks"}
_POSITIONS = ".embeddings.position_ids"  # 0, 1, 2 ..., which old versions saved

_DEFAULT_HEADS = {"vision": 12, "text": 8}  # `transformers` leaves out of config.json what is its default
_OPENAI_WIDTHS = {"vision": (768, 1024), "text": (512, 768)}


@dataclass(frozen=True)
class Tower:
    """What the shapes of an encoder's weights do not say.

    Attributes:
        quick_gelu: whether the activation is QuickGELU, or else GELU.
        heads: of the attention; None: one for each 64 values of the width.
    """

    quick_gelu: bool = True
    heads: int | None = None


@dataclass(frozen=True)
class Towers:
    """Both encoders of a CLIP."""

    vision: Tower
    text: Tower


OPENAI_TOWERS = Towers(Tower(), Tower())


def convert(tensors: Mapping[str, Any], path: Path, say: Callable[[str], None]) -> tuple[dict[str, Any], Towers]:
    """Rename and rearrange tensors to OpenAI's layout.

    Args:
        tensors: of a `CLIPModel`.
        path: their file; its folder's `config.json` is read if it is there.
        say: called with a sentence on what is assumed where there is none.

    Returns:
        Tensors by OpenAI's names, and what config.json says of the encoders. What has no counterpart keeps its name.

    Raises:
        ModelError: if config.json is damaged, or says that the model computes something else than OpenAI's CLIP.
    """
    try:
        beside = path.parent / "config.json"
        towers = _towers(_read_json(beside), path) if beside.is_file() else _assumed(tensors, path, say)
        _check_pictures(path.parent)
    except (TypeError, ValueError, AttributeError) as error:  # a value of another type than transformers writes
        raise ModelError(f"The configuration beside {quoted(path)} is damaged", "copy it again") from error
    state: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name in _TRANSPOSED:
            state[_TRANSPOSED[name]] = tensor.T
        elif not name.endswith(_POSITIONS):
            state[_renamed(name)] = tensor
    return _join_attention(state), towers


def identity(path: Path, sha256: str) -> str:
    """The checksum that names a model: its file's, and where they are not OpenAI's, of what config.json says too.

    One file computes other features with another activation or another number of attention heads.

    Args:
        path: of the weights file.
        sha256: of its content.

    Raises:
        ModelError: if the config.json of a CLIP is damaged, or says that the model computes something else.
    """
    beside = path.parent / "config.json"
    if not beside.is_file():
        return sha256
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # damaged: refused when it is loaded
        config = json.loads(read_bounded(beside))
        if config.get("model_type") == "clip" and not _is_openais(config, towers := _towers(config, path)):
            said = json.dumps([sha256, asdict(towers)], sort_keys=True, allow_nan=False)
            return hashlib.sha256(said.encode()).hexdigest()
    return sha256


def _is_openais(config: Mapping[str, Any], towers: Towers) -> bool:
    widths = {"vision": 768, "text": 512}  # `transformers` leaves out of config.json what is its default
    for which, tower in (("vision", towers.vision), ("text", towers.text)):
        if not tower.quick_gelu or tower.heads != _own(config, which).get("hidden_size", widths[which]) // 64:
            return False
    return True


def _renamed(name: str) -> str:
    if (match := _BLOCK.fullmatch(name)) and match[3] in _IN_BLOCK:
        return f"{_BLOCKS[match[1]]}.{match[2]}.{_IN_BLOCK[match[3]]}.{match[4]}"
    return _NAMES.get(name, name)


def _join_attention(state: dict[str, Any]) -> dict[str, Any]:
    """Put the matrices of queries, keys and values below each other, as OpenAI's have them."""
    import torch

    for name in [name for name in state if ".self_attn.q_proj." in name]:
        match = _BLOCK.fullmatch(name)
        parts = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if match and all(part in state for part in parts):
            joined = f"{_BLOCKS[match[1]]}.{match[2]}.attn.in_proj_{match[4]}"
            state[joined] = torch.cat([state.pop(part) for part in parts])
    return state


def _towers(config: Mapping[str, Any], path: Path) -> Towers:
    if (kind := config.get("model_type", "clip")) != "clip":
        raise ModelError(
            f"{quoted(path)} holds a model of type {one_line(kind)!r}, and only 'clip' is read in this layout",
            "look for it among open_clip's: clipcache models 'open_clip:*'",
        )
    return Towers(*(_tower(config, which, path) for which in ("vision", "text")))


def _own(config: Mapping[str, Any], which: str) -> dict[str, Any]:
    """What a config.json says of one encoder; old versions of transformers wrote a second dictionary, which counts."""
    return {**(config.get(f"{which}_config") or {}), **(config.get(f"{which}_config_dict") or {})}


def _tower(config: Mapping[str, Any], which: str, path: Path) -> Tower:
    own = _own(config, which)
    activation = own.get("hidden_act", "quick_gelu")
    wrong = {
        f"hidden_act {activation!r}": activation not in ("quick_gelu", "gelu"),
        f"layer_norm_eps {own.get('layer_norm_eps')}": abs(own.get("layer_norm_eps", 1e-5) - 1e-5) > 1e-9,
        f"eos_token_id {own.get('eos_token_id')}": which == "text" and own.get("eos_token_id", 2) not in (2, 49407),
    }
    for what, is_so in wrong.items():
        if is_so:
            raise ModelError(
                f"The {which} encoder of {quoted(path)} has {what} in its config.json, which is not computed here",
                "encode with a package of your own: docs/models.md, 'An encoder of your own'",
            )
    return Tower(activation == "quick_gelu", int(own.get("num_attention_heads", _DEFAULT_HEADS[which])))


def _assumed(tensors: Mapping[str, Any], path: Path, say: Callable[[str], None]) -> Towers:
    """OpenAI's own encoders, where nothing says otherwise and the widths are theirs."""
    width = {
        "vision": tensors[ANCHOR].shape[0],
        "text": tensors["text_model.embeddings.token_embedding.weight"].shape[1],
    }
    if any(width[which] not in known for which, known in _OPENAI_WIDTHS.items()):
        raise ModelError(
            f"{quoted(path)} is in Hugging Face's layout, and without a config.json nothing tells its activation and "
            "its number of attention heads",
            "put the config.json that belongs to it into the same folder",
        )
    say(
        f"{quoted(path)} is in Hugging Face's layout and has no config.json beside it: QuickGELU and attention heads "
        "of 64 values are assumed, as in OpenAI's releases."
    )
    return OPENAI_TOWERS


def _check_pictures(folder: Path) -> None:
    """Refuse pictures that are not prepared as CLIP's.

    Raises:
        ModelError: if `preprocessor_config.json` says so.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    config = _read_json(path)
    wrong = {
        "image_mean": not _close(config.get("image_mean", MEAN), MEAN),
        "image_std": not _close(config.get("image_std", STD), STD),
        "resample": config.get("resample", 3) != 3,  # PIL's number of bicubic
        **{name: not config.get(name, True) for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize")},
        "rescale_factor": abs(config.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6,
        "size": _side(config.get("size", 224)) != _side(config.get("crop_size", config.get("size", 224))),
    }
    if named := [name for name, is_so in wrong.items() if is_so]:
        raise ModelError(
            f"{quoted(path)} has another {named[0]} than CLIP, and pictures are prepared as CLIP's in this layout",
            "save the model for open_clip, or encode with a package of your own (docs/models.md)",
        )


def _side(size: Any) -> Any:
    """The side of a square, or the shorter side that a picture is scaled to, as any version of transformers says it."""
    return size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size


def _close(values: Any, expected: tuple[float, ...]) -> bool:
    return len(values) == len(expected) and all(abs(a - b) < 1e-4 for a, b in zip(values, expected, strict=True))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(read_bounded(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{quoted(path)} cannot be read", "copy it again from where the weights are from") from error
    if not isinstance(config, dict):
        raise ModelError(f"{quoted(path)} is not the configuration of a model", "copy it again")
    return config
