"""Which CLAP a request means and where its files are; nothing is loaded here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ...cache.common.errors import ModelError, UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import quoted
from ...cache.common.reading import read_bounded
from ...cache.format.names import CLAP, model_slug

CHECKPOINT = "laion/clap-htsat-unfused"
DEFAULT_MODEL = f"{CLAP}:{CHECKPOINT}"

WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Files of weights, in the order in which `transformers` looks for them."""


@dataclass(frozen=True)
class ClapFiles:
    """A saved CLAP model: its name, its checksum and its folder.

    Attributes:
        model: "clap:laion/clap-htsat-unfused", or "clap:" and the name of the folder given.
        sha256: checksum of the weights file, 64 hex digits.
        folder: holds the weights, `config.json`, and the files of the tokenizer and the feature extractor.
    """

    model: str
    sha256: str
    folder: Path


def require_extra() -> None:
    """Make sure that the packages for sound are installed.

    Raises:
        UsageError: if they are not; its remedy says what to install.
    """
    missing = [name for name in ("transformers", "soxr") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"Sound needs {' and '.join(missing)}", "install with: pip install 'clipcache[audio]'")


def check_name(model: str) -> None:
    """Refuse the name of a model that is not the published one, which needs its folder.

    Raises:
        UsageError: if it is such a name.
    """
    if model != CLAP and model_slug(model) != model_slug(DEFAULT_MODEL):
        raise UsageError(f"{model!r} is not {DEFAULT_MODEL}", "name the folder of another CLAP with --audio-weights")


def find_clap(directory: str | os.PathLike[str] | None, memo: DigestMemo) -> ClapFiles:
    """Say which CLAP a request means; nothing is loaded.

    Args:
        directory: a model as `save_pretrained` writes it; None takes the published one, downloaded on first use.
        memo: remembers the checksum of the weights.

    Raises:
        UsageError: if the extra packages are missing.
        ModelError: if there is no such model, or it is not a CLAP, or a fused one.
    """
    require_extra()
    if directory is not None and not os.path.isdir(directory):  # noqa: PTH112  Path.is_dir raises for a long name
        raise ModelError(f"{quoted(directory)} is not a folder", "give one that a CLAP model was saved to")
    folder = Path(directory) if directory is not None else _published()
    weights = _weights_in(folder)
    if weights is None:
        raise ModelError(f"{quoted(folder)} holds neither {' nor '.join(WEIGHTS_NAMES)}", "save a CLAP model there")
    _check_config(folder)
    name = CHECKPOINT if directory is None else os.path.basename(os.path.abspath(directory))  # noqa: PTH100, PTH119
    return ClapFiles(f"{CLAP}:{name}", memo.sha256(weights), folder)


def _weights_in(folder: Path) -> Path | None:
    return next((folder / name for name in WEIGHTS_NAMES if (folder / name).is_file()), None)


def _check_config(folder: Path) -> None:
    try:
        config = json.loads(read_bounded(folder / "config.json"))
        is_clap = config["model_type"] == "clap"
        is_fused = config.get("audio_config", {}).get("enable_fusion", False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{quoted(folder)} has no config.json of a model", "save a CLAP model there") from error
    if not is_clap:
        raise ModelError(f"{quoted(folder)} holds a model of type {config['model_type']!r}", "give a CLAP model")
    if is_fused:
        raise ModelError(
            f"{quoted(folder)} is a fused CLAP, whose features of one sound differ from run to run",
            f"use an unfused one, such as {CHECKPOINT}",
        )


def _published() -> Path:
    """The folder of the published checkpoint in the Hugging Face cache, filled if need be."""
    import huggingface_hub

    with contextlib.suppress(Exception):  # not there, or only in part: it is fetched
        folder = Path(huggingface_hub.snapshot_download(CHECKPOINT, local_files_only=True))
        if _weights_in(folder) is not None:
            return folder
    try:
        held = huggingface_hub.HfApi().list_repo_files(CHECKPOINT)
        weights = next(name for name in WEIGHTS_NAMES if name in held)
        return Path(huggingface_hub.snapshot_download(CHECKPOINT, allow_patterns=["*.json", "*.txt", weights]))
    except Exception as error:
        reason = str(error).split("\n", 1)[0].rstrip(".") or type(error).__name__
        raise ModelError(
            f"{CHECKPOINT} cannot be downloaded from Hugging Face ({reason})",
            ("fetch it on another machine and name its folder with --audio-weights"),
        ) from error
