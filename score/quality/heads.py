"""Heads trained on ratings: linear layers applied to L2-normalised CLIP features, such as LAION's predictor."""

from __future__ import annotations

import io
import itertools
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cache import EntryAttributes
from ...cache.common.errors import ModelError, UsageError
from ...cache.common.quoting import one_line, quoted
from ...cache.common.reading import read_bounded
from ..origins import Origin, architecture_in, check_origin
from ..read_files import StrPath
from .aesthetic import Column
from .choices import Activation

_PARTS = ("weight", "bias")
_MAX_BYTES = 1 << 28  # LAION's largest predictor has 3.7 MB
_MAX_NAME = 200
_SCALE = "rating of the head, without fixed range"


@dataclass(frozen=True)
class Head:
    """Linear layers, one after the other, from a feature to one rating.

    With one layer this is LAION's aesthetic predictor V1 (Schuhmann, "LAION-Aesthetics", 2022), whose ratings are
    meant to be 1 to 10; ratings outside of that range are not clipped.
    """

    name: str
    weights: Sequence[NDArray[np.float32]] = field(repr=False)  # of each layer (outputs, inputs)
    biases: Sequence[NDArray[np.float32]] = field(repr=False)  # of each layer (outputs,)
    activation: Activation = "none"  # between layers
    origin: Origin = Origin()  # noqa: RUF009 - frozen, so one default serves all

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the column of the scores is."""
        return (Column(self.name, _SCALE),)

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rate (N, D) frames of length one: (N, 1) float32."""
        values = units
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number and self.activation == "relu":
                values = np.maximum(values, 0)
            with np.errstate(over="ignore", invalid="ignore"):
                values = values @ weight.T + bias
        if not np.isfinite(values).all():
            raise ModelError(
                f"The head {self.name!r} gives ratings that are not finite; it is damaged, or of another model"
            )
        return values


def load_head(path: StrPath, embed_dim: int, activation: Activation | None = None) -> Head:
    """Load a head from the state dict of a linear layer, or of several in a row; no code of the file is run.

    Args:
        path: .safetensors, or what `torch.save(model.state_dict(), path)` wrote.
        embed_dim: width of the cached features, that of the first layer's input.
        activation: between layers, which a state dict does not hold (LAION's predictors have none); None refuses a
            head of several layers.

    Raises:
        ModelError: the file cannot be read, holds anything but such layers, or the widths do not fit.
        UsageError: there are several layers, and `activation` is None.
    """
    path = Path(path)
    state, said = _load_state(path)
    names = _layer_names(state, path)
    weights = [state[f"{name}weight"] for name in names]
    biases = [state.get(f"{name}bias", np.zeros(len(state[f"{name}weight"]), np.float32)) for name in names]
    _check_widths(weights, biases, embed_dim, path)
    if not all(np.isfinite(array).all() for array in (*weights, *biases)):
        raise ModelError(f"The head {quoted(path)} holds values that are not finite", "train or download it again")
    if activation is None and len(weights) > 1:
        raise UsageError(
            f"The head {quoted(path)} has {len(weights)} layers, and its file does not name the activation",
            "give --head-activation none (as LAION's) or relu",
        )
    origin = Origin(said.get("model", ""), said.get("weights_sha256", ""), architecture_in(path.stem))
    return Head(f"head_{one_line(path.stem)}", weights, biases, activation or "none", origin)


def load_head_of(
    path: StrPath, made_with: EntryAttributes, activation: Activation | None, warn: Callable[[str], None]
) -> Head:
    """Load a head for cached features; warns where nothing says that it was trained for their model.

    Args:
        path: as in `load_head`, likewise `activation`.
        made_with: of the cached features.
        activation: see there.
        warn: called with a sentence.

    Raises:
        ModelError: as `load_head`.
        UsageError: as `load_head`, or the head says that it was trained for another model.
    """
    head = load_head(path, made_with.embed_dim, activation)
    if sentence := check_origin(f"The head {quoted(path)}", head.origin, made_with):
        warn(sentence)
    return head


def _layer_names(state: Mapping[str, NDArray[np.float32]], path: Path) -> list[str]:
    """Return what comes before `weight` and `bias` of each layer, in order: `["layers.0.", "layers.2."]`."""
    layers = {re.sub(r"(weight|bias)$", "", name) for name in state}
    sound = {f"{layer}weight" for layer in layers} <= set(state) <= {f"{x}{y}" for x in layers for y in _PARTS}
    if not layers or not sound or any(state[f"{layer}weight"].ndim != 2 for layer in layers):
        raise ModelError(f"The head {quoted(path)} holds more than linear layers", "save one, or several in a row")
    return sorted(layers, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which `layers.10` comes after `layers.2`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _check_widths(
    weights: Sequence[NDArray[np.float32]], biases: Sequence[NDArray[np.float32]], embed_dim: int, path: Path
) -> None:
    if weights[0].shape[1] != embed_dim:
        raise ModelError(
            f"The head {quoted(path)} takes features of {weights[0].shape[1]} values and the cached ones have "
            f"{embed_dim}",
            "use a head that was trained for the cache's model",
        )
    widths = [embed_dim, *(len(weight) for weight in weights)]
    wanted = [(after, before) for before, after in itertools.pairwise(widths)]
    fits = [weight.shape for weight in weights] == wanted and all(
        bias.shape == weight.shape[:1] for weight, bias in zip(weights, biases, strict=True)
    )
    if not fits or widths[-1] != 1:
        raise ModelError(f"The layers of the head {quoted(path)} do not follow from each other to a single rating")


def _load_state(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Return the arrays, and what the file says about itself."""
    try:
        tensors, said = _read_tensors(read_bounded(path, _MAX_BYTES), path.suffix == ".safetensors")
        if 4 * sum(tensor.numel() for tensor in tensors.values()) > _MAX_BYTES or not all(map(_is_name, tensors)):
            raise ValueError("far more values than a head has, or names that no layer has")
        return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}, said
    except OSError as error:
        raise ModelError(f"Cannot read the head {quoted(path)}: {error.strerror or error}") from error
    except Exception as error:  # of many kinds: the file may hold anything
        raise ModelError(
            f"The head {quoted(path)} is damaged or holds more than tensors",
            ("save a plain state dict (torch.save(model.state_dict(), path)) or safetensors"),
        ) from error


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= _MAX_NAME


def _read_tensors(data: bytes, is_safetensors: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Return named tensors, on the CPU, and texts beside them: metadata of safetensors, or values of a checkpoint."""
    if is_safetensors:
        from safetensors.torch import load

        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return load(data), header.get("__metadata__") or {}
    import torch

    file = io.BytesIO(data)
    if zipfile.is_zipfile(file):  # what torch.save writes; it does not compress
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise ValueError("an archive that declares far more than it holds")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on pickle protocols, which do not matter here
        state = torch.load(file, map_location="cpu", weights_only=True)
    nested = state.get("state_dict")
    said = {name: value for name, value in state.items() if isinstance(value, str)}
    tensors = nested if isinstance(nested, Mapping) else state
    return {name: value for name, value in tensors.items() if name not in said}, said
