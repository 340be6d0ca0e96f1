"""Encoders of other packages, found through the entry points of the group `clipcache.encoders`; see `contract`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from ...cache.common.errors import ClipcacheError, ModelError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import first_line
from .contract import Encoder, EncoderFactory
from .placement import Placement
from .weights import WeightsFile, hash_weights

GROUP = "clipcache.encoders"


def entry_points() -> list[metadata.EntryPoint]:
    """Every registered encoder, sorted by name."""
    return sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name)


def find_entry_point(model: str) -> metadata.EntryPoint | None:
    """What `--model NAME` or `--model NAME:ANYTHING` means, if a package registered NAME."""
    prefix = model.partition(":")[0]
    return next((point for point in entry_points() if point.name == prefix), None)


def find_weights(model: str, weights: Path | None, memo: DigestMemo) -> WeightsFile:
    """See `registry.find_weights`; without a file the encoder is opened, and its `spec` says."""
    if weights is not None:
        return WeightsFile(model, hash_weights(weights, memo), weights, False)
    encoder = _open(model, None, Placement("cpu", "fp32", 1))
    return WeightsFile(model, encoder.spec.weights_sha256, Path(model), False, is_file=False)


def open_encoder(
    weights: WeightsFile,
    placement: Placement,
    *,
    trust: bool = False,  # noqa: ARG001  the factory's own code runs in any case
    texts: bool = True,  # noqa: ARG001  not part of the protocol
) -> Encoder:
    """See `registry.open_encoder`."""
    encoder = _open(weights.model, weights.path if weights.is_file else None, placement)
    found = encoder.spec.weights_sha256
    if found != weights.sha256:
        raise ModelError(
            f"The encoder {weights.model!r} opened weights {found[:16]}… instead of {weights.sha256[:16]}…; its spec "
            "must give the sha256 of the file named, and the same one each time"
        )
    return encoder


def _open(model: str, weights: Path | None, placement: Placement) -> Encoder:
    point: Any = find_entry_point(model)
    try:
        factory: EncoderFactory = point.load()
        encoder = factory(model, weights, placement.device, placement.dtype)
        name = encoder.spec.name
    except ClipcacheError:
        raise
    except Exception as error:
        raise ModelError(f"The encoder {point.value} cannot be opened ({first_line(error)})") from error
    if name != model:
        raise ModelError(f"The encoder {point.value} has the name {name!r}, not {model!r}", "correct its spec")
    return encoder
