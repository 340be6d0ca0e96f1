"""Names of OpenAI's CLIP models, where their weights are, and how they are loaded.

With `openai` this is the only module that imports `clip`. OpenAI's loader opens any local file without a checksum
and cannot read a plain state dict, so files are opened here and the model is built from a checked state dict.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.resources
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.common.atomic import replacing, write_atomically
from ...cache.common.errors import CacheError, ModelError, UsageError
from ...cache.common.hashing import DigestMemo, sha256_file
from ...cache.common.options import warn
from ...cache.common.progress import Bar
from ...cache.common.quoting import quoted
from ...cache.format.names import canonical_model
from .checkpoint import SIZES, Checkpoint, load_safetensors, load_torchscript, misfit, read_checkpoint, weights_file
from .hugging_face import Tower, identity

DEFAULT_MODEL = "ViT-B/32"
DEMO_MODEL = "demo"

_DOWNLOAD_ROOT = "https://openaipublic.azureedge.net/clip/models"


@dataclass(frozen=True)
class KnownModel:
    """One of OpenAI's published models.

    Attributes:
        sha256: checksum of the TorchScript archive that OpenAI published; part of its URL.
        embed_dim: length of a feature vector.
        input_size: side of the input picture in pixels.
        stem: channels and kernel side of the first convolution: what distinguishes ViT-B/16 from ViT-B/32, whose
            features and pictures have equal sizes. None where it is not checked.
    """

    sha256: str
    embed_dim: int
    input_size: int
    stem: tuple[int, int] | None = None


OPENAI_MODELS = {
    "RN50": KnownModel("afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", 1024, 224, (32, 3)),
    "RN101": KnownModel("8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599", 512, 224, (32, 3)),
    "RN50x4": KnownModel("7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd", 640, 288, (40, 3)),
    "RN50x16": KnownModel("52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa", 768, 384, (48, 3)),
    "RN50x64": KnownModel("be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c", 1024, 448, (64, 3)),
    "ViT-B/32": KnownModel("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", 512, 224, (768, 32)),
    "ViT-B/16": KnownModel("5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", 512, 224, (768, 16)),
    "ViT-L/14": KnownModel("b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", 768, 224, (1024, 14)),
    "ViT-L/14@336px": KnownModel(
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", 768, 336, (1024, 14)
    ),
}


@dataclass(frozen=True)
class WeightsFile:
    """The weights of a run: their name, their checksum and their file.

    Attributes:
        model: canonical name, e.g. "ViT-B/32".
        sha256: checksum of the file as published or given; of a folder given, that of the weights file in it.
        path: the file; for OpenAI's models the place it is downloaded to, which may not exist yet.
        published: whether this is one of OpenAI's archives, known by its checksum.
        is_file: False for an encoder of another package whose weights are not one file; `path` is then its name.
    """

    model: str
    sha256: str
    path: Path
    published: bool
    is_file: bool = True


def find_weights(model: str, weights: Path | None, memo: DigestMemo) -> WeightsFile:
    """Say which weights in OpenAI's layout a request means, without loading or downloading anything.

    Raises:
        UsageError: if a model is not OpenAI's, and no weights file is given.
        ModelError: if the weights file is missing, or has the name that open_clip gives to its own.
    """
    name = canonical_model(model)
    if weights is not None:
        weights = weights_file(weights)
        digest = identity(weights, hash_weights(weights, memo))
        if weights.name.startswith("open_clip_"):  # as all that it publishes; mostly trained with another activation
            raise ModelError(
                f"{quoted(weights)} looks like weights of open_clip, whose activation differs from OpenAI's",
                "name their architecture: --model open_clip:ARCH --weights FILE",
            )
        return WeightsFile(name, digest, weights, any(m.sha256 == digest for m in OPENAI_MODELS.values()))
    if name == DEMO_MODEL:
        path = bundled_weights()
        return WeightsFile(name, memo.sha256(path), path, False)
    if name not in OPENAI_MODELS:
        known = ", ".join([*OPENAI_MODELS, DEMO_MODEL])
        raise UsageError(
            f"Unknown model {name!r}",
            f"choose one of {known}, an open_clip name (open_clip:ARCH/TAG, hf-hub:ORG/NAME), "
            "or name its file: --weights",
        )
    return WeightsFile(name, OPENAI_MODELS[name].sha256, download_folder() / f"{re.sub('[/@]', '-', name)}.pt", True)


def hash_weights(path: Path, memo: DigestMemo) -> str:
    """Return the sha256 of the weights file that was named.

    Raises:
        ModelError: if it is missing.
    """
    if not os.path.isfile(path):  # noqa: PTH113  Path.is_file raises for a name that is too long
        raise ModelError(f"The weights file {quoted(path)} does not exist", "check --weights")
    return memo.sha256(path)


def bundled_weights() -> Path:
    """The tiny CLIP that comes with the package: it was trained on coloured shapes only (demo/README.md)."""
    return Path(str(importlib.resources.files("clipcache.demo"))) / "demo.npz"


def known_model(name: str) -> KnownModel | None:
    """What is known of a model by its name alone; None of any but OpenAI's and the bundled one."""
    if name == DEMO_MODEL:
        return KnownModel(sha256_file(bundled_weights()), 512, 224)
    return OPENAI_MODELS.get(name)


def download_folder() -> Path:
    """Where `clip` keeps its downloads, so that one download serves both."""
    return Path("~/.cache/clip").expanduser()


def download_url(weights: WeightsFile) -> str:
    """Where OpenAI publishes an archive."""
    return f"{_DOWNLOAD_ROOT}/{weights.sha256}/{weights.path.name}"


def converted_copy(weights: WeightsFile) -> Path:
    """The safetensors copy of one of OpenAI's archives, made at its first use."""
    return weights.path.with_name(f"{weights.path.stem}.{weights.sha256[:16]}.safetensors")


def load_clip(weights: WeightsFile, *, trust: bool = False) -> Any:
    """Build OpenAI's `clip.model.CLIP` from a weights file, in float32 on the CPU, ready for inference.

    Args:
        weights: from `find_weights`.
        trust: open a TorchScript archive that is not OpenAI's own; such a file can run code.

    Raises:
        ModelError: if the weights are missing, damaged, not CLIP's, or of another model than their name says.
    """
    checkpoint = _read(weights, trust)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pkg_resources, on itself and on editable installs
        clip_model = importlib.import_module("clip.model")
    try:
        model = _build(clip_model, checkpoint.state)
    except Exception as error:
        raise ModelError(
            f"{quoted(weights.path)} does not hold the weights of a CLIP in OpenAI's or Hugging Face's layout: "
            f"{misfit(error)}",
            "save the state dict of the whole model; for those of open_clip, name --model open_clip:ARCH/TAG",
        ) from error
    _set_up(model.visual, checkpoint.towers.vision)
    _set_up(model, checkpoint.towers.text)
    model = model.float().eval().requires_grad_(False)
    _check_shape(weights, model)
    return model


def _set_up(encoder: Any, tower: Tower) -> None:
    """Give an encoder, if it is a transformer, what its weights do not say."""
    import torch

    blocks = encoder.transformer.resblocks if hasattr(encoder, "transformer") else ()
    for block in blocks:
        if not tower.quick_gelu:
            block.mlp.gelu = torch.nn.GELU()
        if tower.heads:
            block.attn.num_heads, block.attn.head_dim = tower.heads, block.attn.embed_dim // tower.heads


def _build(clip_model: Any, state: dict[str, Any]) -> Any:
    """`clip.model.build_model` without the half second that it takes to draw random weights and overwrite them."""
    import torch

    with torch.device("meta"):
        model = clip_model.build_model({name: value.to("meta") for name, value in state.items()})
    model.load_state_dict({name: value for name, value in state.items() if name not in SIZES}, assign=True)
    mask = clip_model.CLIP.build_attention_mask(model)  # no parameter: it stayed on the meta device
    for block in model.transformer.resblocks:
        block.attn_mask = mask
    return model


def _check_shape(weights: WeightsFile, model: Any) -> None:
    """A published name must come with weights of that architecture."""
    known = OPENAI_MODELS.get(weights.model)
    if known is None:
        return
    found = int(model.text_projection.shape[1]), int(model.visual.input_resolution)
    stem = tuple(model.visual.conv1.weight.shape[::3])
    if found != (known.embed_dim, known.input_size) or (known.stem and stem != known.stem):
        raise ModelError(
            f"{quoted(weights.path)} holds another model than {weights.model}: features of {found[0]} values "
            f"from {found[1]}-pixel pictures by a first layer of {stem}, instead of {known.embed_dim} from "
            f"{known.input_size} by {known.stem}",
            "name it with --model NAME",
        )


def _read(weights: WeightsFile, trust: bool) -> Checkpoint:
    if weights.published and weights.path.suffix != ".safetensors":
        return Checkpoint(_load_published(weights))
    if not weights.path.is_file():
        raise ModelError(f"The weights file {quoted(weights.path)} does not exist", "check --weights")
    return read_checkpoint(weights.path, trust=trust, say=warn)


def _load_published(weights: WeightsFile) -> dict[str, Any]:
    """OpenAI's archive: from the safetensors copy made at its first use, else from the archive, fetched if need be."""
    copy = converted_copy(weights)
    if copy.is_file():
        try:
            return load_safetensors(copy)
        except ModelError:  # damaged: it is made again
            copy.unlink(missing_ok=True)
    if not weights.path.is_file():
        _download(weights)
    elif sha256_file(weights.path) != weights.sha256:
        raise ModelError(
            f"{quoted(weights.path)} is damaged (its checksum is not OpenAI's)", "move it away and try again"
        )
    state = load_torchscript(weights.path)
    _keep_copy(state, copy)
    return state


def _keep_copy(state: dict[str, Any], copy: Path) -> None:
    """Keep the tensors as safetensors beside the archive; a folder that cannot be written costs only the speed-up."""
    from safetensors.torch import save

    with contextlib.suppress(CacheError):
        write_atomically(copy, save({name: tensor.contiguous().clone() for name, tensor in state.items()}))


def _download(weights: WeightsFile) -> None:
    """Fetch OpenAI's archive: to a temporary file, checked, then moved."""
    import http.client
    import urllib.request

    url = download_url(weights)

    def check(temporary: Path) -> None:
        if sha256_file(temporary) != weights.sha256:
            raise ModelError(f"The download of {url} arrived damaged (wrong checksum)", "try again")

    try:
        with (
            urllib.request.urlopen(url, timeout=30) as source,  # noqa: S310  https
            replacing(weights.path, check=check) as temporary,
            temporary.open("wb") as target,
        ):
            _copy_with_bar(source, target, weights.path.name)
    except (http.client.HTTPException, OSError, CacheError) as error:  # a URLError is an OSError
        cause = error.__cause__ if isinstance(error, CacheError) else error
        reason = getattr(cause, "reason", None) or cause
        raise ModelError(
            f"No weights for {weights.model}: {url} cannot be downloaded to {quoted(weights.path)} ({reason})",
            f"fetch it on another machine and copy it there, name a file with --weights PATH, or try "
            f"--model {DEMO_MODEL}, which is bundled and was trained on coloured shapes only",
        ) from error


def _copy_with_bar(source: Any, target: Any, name: str) -> None:
    total = int(source.headers.get("Content-Length") or 0) or None
    with Bar(f"Downloading {name}", total, "B") as bar:
        while block := source.read(1 << 20):
            target.write(block)
            bar.advance(len(block))
