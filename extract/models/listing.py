"""The list of `clipcache models`: names, sizes, operations per picture, and where the weights are or come from."""

from __future__ import annotations

import fnmatch
import glob
import importlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ...cache.common.hashing import DigestMemo
from ...cache.common.render import table_lines
from ...cache.format.names import canonical_model
from .open_clip import HUB, import_open_clip
from .open_clip_registry import ARCH, registry, right_names
from .plugins import entry_points, find_entry_point
from .weights import DEMO_MODEL, OPENAI_MODELS, KnownModel, bundled_weights, converted_copy, download_url, find_weights

GFLOPS_FILE = Path(__file__).with_name("gflops.json")
"""A table by model, made by benchmarks/count_gflops.py; null for what cannot be counted."""

_DEMO = KnownModel("", embed_dim=512, input_size=224)
_HEAD = ("MODEL", "DIM", "PIXELS", "GFLOPS", "WEIGHTS")
_RIGHT_ALIGNED = frozenset(map(_HEAD.index, ("DIM", "PIXELS", "GFLOPS")))


@dataclass(frozen=True)
class ModelRow:
    """One model.

    Attributes:
        name: for `--model`.
        embed_dim: length of a feature; None if it is not known before the model is loaded.
        input_size: side of a picture in pixels; None likewise.
        gflops: billions of operations of one picture, a multiplication and an addition counted as two, as torch's
            `FlopCounterMode` counts matrix products and convolutions; None where they were not counted.
        weights: the file, or the URL that it would be downloaded from.
        present: whether the file is on this machine.
    """

    name: str
    embed_dim: int | None
    input_size: int | None
    gflops: float | None
    weights: str
    present: bool


def list_models(pattern: str | None = None) -> list[ModelRow]:
    """List OpenAI's models, the demo's and registered encoders; or those whose name fits a pattern, also open_clip's.

    Args:
        pattern: a shell pattern, "open_clip:ViT-B-32*". Models of open_clip are listed only where it
            begins with "open_clip:".

    Raises:
        ModelError: if models of open_clip are listed, which is not installed.
    """
    if pattern is None:
        return [*_openai(), *map(_registered_row, entry_points())]
    if pattern.startswith(ARCH):
        return list(_open_clip(import_open_clip(), pattern))
    return [
        row for row in [*_openai(), *map(_registered_row, entry_points())] if fnmatch.fnmatchcase(row.name, pattern)
    ]


def locate(model: str) -> ModelRow | None:
    """Return the row of a model; None where only its weights file tells more. Nothing is downloaded.

    Raises:
        ModelError: if it is open_clip's, which is not installed.
    """
    if model.startswith(HUB):
        here = _in_hub_cache(f"{model.removeprefix(HUB)}/")
        source = f"https://huggingface.co/{model.removeprefix(HUB)}"
        return ModelRow(model, None, None, None, here or source, here is not None)
    if (point := find_entry_point(model)) is not None:
        return replace(_registered_row(point), name=model, present=True)
    name = canonical_model(model)
    return next((row for row in list_models(glob.escape(name)) if row.name == name), None)


def as_text(rows: Iterable[ModelRow]) -> str:
    """A table; numbers right-aligned, a dash for what is not known."""
    table = [_HEAD, *(tuple(map(_shown, asdict(row).values()))[:-1] for row in rows)]
    return "".join(table_lines(table, _RIGHT_ALIGNED)).rstrip("\n")


def as_json(rows: Iterable[ModelRow]) -> str:
    """A list of objects with the fields of `ModelRow`."""
    return json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False)


@cache
def gflops() -> dict[str, float | None]:
    """Billions of operations by model, and by architecture as "open_clip:ARCH"; see `ModelRow.gflops`."""
    table: dict[str, float | None] = json.loads(GFLOPS_FILE.read_text(encoding="utf-8"))
    return table


def _openai() -> Iterator[ModelRow]:
    memo = DigestMemo()
    for name, known in OPENAI_MODELS.items():
        found = find_weights(name, None, memo)
        here = next((path for path in (found.path, converted_copy(found)) if path.is_file()), None)
        yield _row(name, known, here, download_url(found))
    yield _row(DEMO_MODEL, _DEMO, bundled_weights(), "")


def _row(name: str, known: KnownModel, here: Path | None, url: str) -> ModelRow:
    return ModelRow(name, known.embed_dim, known.input_size, gflops().get(name), str(here or url), here is not None)


def _registered_row(point: metadata.EntryPoint) -> ModelRow:
    """An encoder of another package; opening it to ask for more could take any time."""
    return ModelRow(point.name, None, None, None, f"known to {point.value}", False)


def _open_clip(open_clip: Any, pattern: str) -> Iterator[ModelRow]:
    for arch, _, name, entry in registry(open_clip):
        is_meant = fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f"{ARCH}{arch}", pattern)
        if not is_meant or right_names(open_clip, arch, entry):  # the latter would be refused
            continue
        config = open_clip.get_model_config(arch)
        size = config["vision_cfg"].get("image_size", 224)
        here = _in_hub_cache(entry.get("hf_hub") or "")
        cost = gflops().get(f"{ARCH}{arch}")
        yield ModelRow(name, config["embed_dim"], size, cost, here or _source(entry), bool(here))


def _source(entry: dict[str, Any]) -> str:
    hub = (entry.get("hf_hub") or "").rstrip("/")
    return f"https://huggingface.co/{hub}" if hub else str(entry.get("url") or "")


def _in_hub_cache(hub: str) -> str | None:
    """The weights file of "org/model/" or "org/model/file" if the hub's own cache has it."""
    if not hub:
        return None
    load = importlib.import_module("huggingface_hub").try_to_load_from_cache
    repository, _, file = hub.rpartition("/")
    names = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    found = [load(repository, name) for name in names]
    return next((path for path in found if isinstance(path, str)), None)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
