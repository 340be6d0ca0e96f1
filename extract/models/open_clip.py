"""open_clip's models as encoders: the extra `open-clip`. The only module that imports `open_clip`.

| `--model`            | architecture and preprocessing                  | weights                               |
|----------------------|-------------------------------------------------|---------------------------------------|
| `open_clip:ARCH/TAG` | open_clip's registry                            | the tag's, downloaded, or `--weights` |
| `open_clip:ARCH`     | open_clip's registry; see `preprocessing_of`    | `--weights FILE`                      |
| `hf-hub:ORG/NAME`    | `open_clip_config.json` of the repository       | the repository's, or `--weights`      |
| `local-dir:FOLDER`   | `open_clip_config.json` of the folder           | the folder's, or `--weights` in it    |

Preprocessing is never guessed. It can be given with the name, `open_clip:ARCH,resize=squash,mean=0.5,std=0.5`, which
entries record, so that prompts and pictures of later questions find it again.

A state dict does not say which activation it was trained with, GELU or QuickGELU, and with the wrong one the features
are wrong without any sign of it. Where open_clip's registry records the activation (by tag, or by the checksum in its
URLs), a mismatch is refused.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ...cache.common.errors import ModelError, UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.options import warn
from ...cache.common.quoting import first_line, quoted
from ...cache.format.names import canonical_model
from ..video.resize import ResizeRule
from .checkpoint import find_tensors, misfit
from .contract import EncoderSpec, FloatArray, too_long
from .open_clip_registry import ARCH, architecture, check_activation, preprocessing_of, registered_as
from .placement import Placement
from .weights import WeightsFile, hash_weights

HUB = "hf-hub:"
FOLDER = "local-dir:"
PREFIXES = (ARCH, HUB, FOLDER)

_CONFIG = "open_clip_config.json"
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


def find_weights(model: str, weights: Path | None, memo: DigestMemo) -> WeightsFile:
    """See `registry.find_weights`."""
    open_clip = import_open_clip()
    arch, tag = architecture(open_clip, model)
    if tag:
        check_activation(open_clip, arch, open_clip.get_pretrained_cfg(arch, tag))
    path = weights or _own_weights(open_clip, model)
    sha256 = hash_weights(path, memo)
    if arch:
        check_activation(open_clip, arch, registered_as(open_clip, sha256))
        preprocessing_of(open_clip, model, sha256)
    return WeightsFile(canonical_model(model), sha256, path, False)


def open_encoder(weights: WeightsFile, placement: Placement, *, trust: bool = False, texts: bool = True) -> OpenClip:
    """See `registry.open_encoder`."""
    return OpenClip(weights, placement, trust=trust, texts=texts)


class OpenClip:
    """A model of open_clip: an `Encoder`, computed by open_clip's own code in open_clip's own precisions."""

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False, texts: bool = True) -> None:
        self._open_clip = import_open_clip()
        self._identifier, preprocessing = _identify(self._open_clip, weights)
        model = self._load(weights, placement, preprocessing, trust)
        if not texts:
            for name in [name for name, _ in model.named_children() if name != "visual"]:
                delattr(model, name)
        self._device, self._dtype = placement.device, placement.dtype
        self._model = model.to(placement.device)
        self.spec = _make_spec(self._open_clip, self._identifier, weights, model)
        self._mean, self._std = (self._per_channel(values) for values in (self.spec.mean, self.spec.std))

    def encode_images(self, pictures: Any) -> Any:
        """See `Encoder`."""
        values = (pictures.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        return self._model.encode_image(values.to(self._dtype)).float()

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """See `Encoder`."""
        import torch

        tokens = self._tokenize(list(prompts), truncate).to(self._device)
        with torch.inference_mode():
            features: FloatArray = self._model.encode_text(tokens).float().cpu().numpy()
        return features

    def _load(self, weights: WeightsFile, placement: Placement, preprocessing: dict[str, Any], trust: bool) -> Any:
        try:
            with _quietly():
                model = self._open_clip.create_model(
                    self._identifier,
                    precision=placement.precision,
                    load_weights=False,
                    pretrained_text=False,  # it would download a text tower, to be overwritten
                    force_preprocess_cfg=preprocessing,
                )
                self._load_file(model, weights.path, trust)
        except Exception as error:
            raise ModelError(
                f"{quoted(weights.path)} cannot be loaded as open_clip's {self._identifier} ({misfit(error)})",
                "check --model and --weights",
            ) from error
        return model.eval().requires_grad_(False)

    def _load_file(self, model: Any, path: Path, trust: bool) -> None:
        """By open_clip, which converts several layouts; else what it does not find: behind other keys and prefixes."""
        try:
            self._open_clip.load_checkpoint(model, str(path), weights_only=not trust)
        except Exception:
            with contextlib.suppress(ModelError):
                if tensors := find_tensors(path, model.state_dict().keys(), trust=trust, say=warn):
                    model.load_state_dict(tensors)
                    return
            raise

    def _per_channel(self, values: Sequence[float]) -> Any:
        import torch

        return torch.tensor(values, device=self._device).view(1, 3, 1, 1)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            with _quietly():
                return self._open_clip.get_tokenizer(self._identifier)
        except Exception as error:
            raise ModelError(
                f"The tokenizer of {self.spec.name} cannot be opened ({first_line(error)})",
                "it may need pip install transformers, or a network the first time; without one, save the model's "
                f"{_CONFIG}, its weights and its tokenizer's files to a folder and name --model {FOLDER}FOLDER",
            ) from error

    def _tokenize(self, prompts: list[str], truncate: bool) -> Any:
        tokenizer = self._tokenizer
        if not truncate:
            for prompt in prompts:
                if _is_cut(tokenizer, prompt):
                    raise too_long(prompt, tokenizer.context_length, _count(tokenizer, prompt))
        return tokenizer(prompts)


def import_open_clip() -> Any:
    """Import the package.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the many packages that it imports
            return importlib.import_module("open_clip")
    except ImportError as error:
        raise ModelError(
            f"Models of open_clip need an extra ({error})", "pip install 'clipcache[open-clip]'"
        ) from error


def _own_weights(open_clip: Any, model: str) -> Path:
    """The file that the name means by itself, fetched if need be.

    Raises:
        UsageError: if it names none.
        ModelError: if it cannot be fetched.
    """
    if model.startswith(FOLDER):
        return _weights_in(Path(model.removeprefix(FOLDER)))
    arch, tag = architecture(open_clip, model)
    if arch and not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise UsageError(
            f"Name weights for {model}: --weights FILE, or one of open_clip's as {ARCH}{arch}/TAG ({tags})"
        )
    try:
        with _quietly():
            if arch:
                return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(arch, tag)))
            return Path(open_clip.pretrained.download_pretrained_from_hf(model.removeprefix(HUB)))
    except Exception as error:
        raise ModelError(
            f"No weights for {model}: they cannot be downloaded ({first_line(error)})",
            "fetch them on another machine "
            "and name the file with --weights, or its folder with --model local-dir:FOLDER",
        ) from error


def _weights_in(folder: Path) -> Path:
    """The weights file of a folder as open_clip saves it; safetensors where there are both.

    Raises:
        ModelError: if there is no folder, no configuration, or not exactly one file that it could be.
    """
    if not (folder / _CONFIG).is_file():
        raise ModelError(
            f"There is no {_CONFIG} in {quoted(folder)}", "name the folder of a model that open_clip saved"
        )
    for suffix in _SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        found = [path for path in found if path.name.startswith("open_clip_")] or found
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise ModelError(f"{quoted(folder)} holds several weights files ({names})", "name one with --weights")
    raise ModelError(f"There are no weights ({', '.join(_SUFFIXES)}) in {quoted(folder)}", "save them there")


def _identify(open_clip: Any, weights: WeightsFile) -> tuple[str, dict[str, Any]]:
    """What open_clip calls the architecture, and the tag's preprocessing where a tag has one of its own."""
    if weights.model.startswith(FOLDER):  # the name is the folder's last part only
        return f"{FOLDER}{weights.path.absolute().parent}", {}
    arch, _ = architecture(open_clip, weights.model)
    return arch or weights.model, preprocessing_of(open_clip, weights.model, weights.sha256) if arch else {}


def _make_spec(open_clip: Any, identifier: str, weights: WeightsFile, model: Any) -> EncoderSpec:
    preprocessing = model.visual.preprocess_cfg
    size = preprocessing["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ModelError(f"{weights.model} reads pictures of {width}x{height} pixels; clipcache makes square ones only")
    config = open_clip.get_model_config(identifier)
    bias = getattr(model, "logit_bias", None)
    bilinear = preprocessing["interpolation"] == "bilinear"  # open_clip takes bicubic for anything else
    return EncoderSpec(
        name=weights.model,
        weights_sha256=weights.sha256,
        embed_dim=int(config["embed_dim"]),
        input_size=int(height),
        logit_scale=float(model.logit_scale.exp()),
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
        resize=ResizeRule(
            preprocessing["resize_mode"], "bilinear" if bilinear else "bicubic", preprocessing["fill_color"]
        ),
        logit_bias=0.0 if bias is None else float(bias),
        pooling=_pooling(model.visual, config["vision_cfg"]),
        normalization="none",
    )


def _pooling(visual: Any, config: dict[str, Any]) -> str:
    """How pictures become one vector, in open_clip's own words: "tok", "avg", "map"; "" where it does not say."""
    if getattr(visual, "attn_pool", None) is not None or hasattr(visual, "attnpool"):
        return "attention pooling"
    return str(config.get("timm_pool") or getattr(visual, "pool_type", ""))


def _count(tokenizer: Any, prompt: str) -> int:
    """How many tokens a prompt has: with room for all of them, what is left is filled with one value."""
    row = tokenizer([prompt], context_length=8 * len(prompt) + 100)[0]
    if getattr(tokenizer, "tokenizer_mode", None) == "clips":  # this kind ends in a class token
        row = row[:-1]
    return int((row != row[-1]).nonzero()[-1]) + 1


def _is_cut(tokenizer: Any, prompt: str) -> bool:
    """Whether a tokenizer drops the end of a prompt, which it does silently: with more room it gives more tokens."""
    length = tokenizer.context_length
    last = -1 if getattr(tokenizer, "tokenizer_mode", None) == "clips" else None  # this kind ends in a class token
    short, long = tokenizer([prompt])[0][:last], tokenizer([prompt], context_length=2 * length)[0][:last]
    return bool((long[: len(short)] != short).any() or (long[length:] != long[-1]).any())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Turn off open_clip's warnings about weights that are loaded a moment later."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
