"""The protocol of an encoder, which OpenAI's CLIPs, open_clip's models and encoders of your own implement.

An encoder is a `spec`, a function from pictures to features and one from prompts to features. To bring your own,
write a factory and name it in the entry points of your package; docs/models.md has an example of 30 lines:

    [project.entry-points."clipcache.encoders"]
    siglip = "my_package:open_siglip"

`--model siglip` and `--model siglip:ANYTHING` then call `open_siglip(model, weights, device, dtype)`. `check_encoder`
tests an encoder against the protocol.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import ModelError, PromptError
from ...cache.common.hashing import is_sha256
from ..video.resize import CLIP_RULE, ResizeRule
from .openai_fast import MEAN, STD

FloatArray = npt.NDArray[np.float32]

_TOO_LONG = "word " * 100_000
_SHOWN_CHARS = 200


@dataclass(frozen=True)
class EncoderSpec:
    """The properties of a model; the defaults are CLIP's.

    Attributes:
        name: as `--model` names it, and as entries record it.
        weights_sha256: 64 hex digits: of the weights file, or `state_dict_sha256` where there is none. Entries of other
            weights are other entries.
        embed_dim: D, the length of a feature.
        input_size: side of the square picture that the model sees, in pixels.
        logit_scale: factor from cosine to logit, about 100 for CLIP; 1.0 for a model that has none.
        mean: mean of each RGB channel, in 0..1; `encode_images` subtracts it.
        std: standard deviation of each RGB channel, in 0..1; `encode_images` divides by it.
        resize: how pictures become the square; done before `encode_images`, in the decoding workers.
        has_text: whether prompts can be encoded; False for models of pictures alone, such as DINO.
        logit_bias: what the model adds to a logit, about -10 for SigLIP; 0.0 for a model that adds nothing.
        pooling: how the model makes one vector of a picture, such as "class token"; "" if that is not known.
        normalization: of the features that `encode_images` returns: "none", or "l2" for length 1; "" if not known.

    Raises:
        ModelError: if a value is out of range.
    """

    name: str
    weights_sha256: str
    embed_dim: int
    input_size: int
    logit_scale: float = 1.0
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    resize: ResizeRule = CLIP_RULE
    has_text: bool = True
    logit_bias: float = 0.0
    pooling: str = ""
    normalization: str = ""

    def __post_init__(self) -> None:
        problems = {
            "name must not be empty": not self.name,
            "weights_sha256 must be 64 lower-case hex digits": not is_sha256(self.weights_sha256),
            "embed_dim must be 1 or more": self.embed_dim < 1,
            "input_size must be 1 or more pixels": self.input_size < 1,
            "logit_scale must be finite and more than 0": not 0 < self.logit_scale < float("inf"),
            "logit_bias must be finite": not math.isfinite(self.logit_bias),
            "normalization must be none, l2 or empty": self.normalization not in ("", "none", "l2"),
            "mean and std must have 3 values each": len(self.mean) != 3 or len(self.std) != 3,
            "std must be more than 0": min(self.std, default=0) <= 0,
        }
        for sentence, is_so in problems.items():
            if is_so:
                raise ModelError(f"The spec of the encoder {self.name!r} is wrong: {sentence}")

    def describe_preprocessing(self, backend: str) -> str:
        """What an entry records of how its pictures were prepared.

        Args:
            backend: library that resized them: "pil", or "torch uint8" for torch's 8-bit resize.
        """
        resized = self.resize.describe(self.input_size, backend)
        if (self.mean, self.std, self.resize) == (MEAN, STD, CLIP_RULE):
            return f"clip: {resized}"
        return f"{resized}, mean {_values(self.mean)}, std {_values(self.std)}"


class Encoder(Protocol):
    """A model on its device, ready to encode. Features are as the model gives them, not normalised to length 1."""

    @property
    def spec(self) -> EncoderSpec:
        """The properties of the model."""

    def encode_images(self, pictures: Any) -> Any:
        """Encode pictures that are resized already.

        Called under `torch.inference_mode()`, after the first time perhaps from several threads at once.

        Args:
            pictures: (n, S, S, 3) uint8 tensor on the device, RGB, S = `spec.input_size`; it must stay as it is.
                Subtracting the mean and dividing by the standard deviation is done by the encoder.

        Returns:
            (n, D) float32 tensor on the device.
        """

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """Encode prompts.

        Args:
            prompts: P of them, at least one.
            truncate: drop the end of a prompt that is too long.

        Returns:
            (P, D) float32 array.

        Raises:
            ModelError: if a prompt is longer than the model reads and `truncate` is false (`too_long` makes it), or
                `spec.has_text` is false.
        """


class EncoderFactory(Protocol):
    """What an entry point of the group `clipcache.encoders` names.

    It is called once for the `spec` alone, on the CPU, where no `--weights` tells what is meant, and once more to work.
    """

    def __call__(self, model: str, weights: Path | None, device: str, dtype: Any) -> Encoder:
        """Open an encoder.

        Args:
            model: the whole of `--model`; the `spec` must repeat it as `name`.
            weights: the file of `--weights`; None: the factory finds it.
            device: "cpu", "cuda" or "cuda:N".
            dtype: torch.float32, bfloat16 or float16, to compute in; features are float32 in any case.
        """


def state_dict_sha256(state: Mapping[str, Any]) -> str:
    """Return the sha256 of weights that are not in one file: 64 hex digits.

    Over the tensors sorted by name, of each: the name, its dtype as torch spells it, its shape, and its values, row by
    row and little-endian; NUL bytes between.

    Args:
        state: tensors by name, as `module.state_dict()` gives them.
    """
    import torch

    whole = hashlib.sha256(b"clipcache state dict\0")
    for name, tensor in sorted(state.items()):
        whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        values = tensor.detach().cpu().contiguous()
        whole.update(values.view(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return whole.hexdigest()


def check_encoder(encoder: Encoder, device: str = "cpu") -> None:
    """Test an encoder against the protocol: call it from a test of yours, with tiny or with real weights.

    Shapes and types, that a picture's features depend neither on its neighbours nor on the thread, that they follow the
    picture, that the pictures are left alone, and what happens to prompts.

    Args:
        encoder: in float32; batches change half precision by more than is tolerated here.
        device: where it computes.

    Raises:
        ModelError: if it does not; the sentence says where.
    """
    import torch

    size = encoder.spec.input_size
    pictures = torch.randint(0, 256, (5, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(device)
    before = pictures.clone()

    def encode(batch: Any) -> FloatArray:
        with torch.inference_mode():
            features: FloatArray = encoder.encode_images(batch).cpu().numpy()
        return features

    with torch.inference_mode():
        check_features(encoder.spec, encoder.encode_images(pictures), len(pictures))
    together = encode(pictures)
    _require(encoder, torch.equal(pictures, before), "encode_images changes the pictures that it is given")
    alone = np.concatenate([encode(pictures[i : i + 1]) for i in range(len(pictures))])
    _require(encoder, _are_close(alone, together), "a picture's features depend on the pictures beside it")
    with ThreadPoolExecutor(2) as executor:
        threaded = list(executor.map(encode, [pictures] * 4))
    _require(encoder, all(_are_close(t, together) for t in threaded), "encode_images gives other features in threads")
    _require(encoder, not np.array_equal(together[0], together[1]), "all pictures have the same features")
    _check_texts(encoder)


def too_long(prompt: str, limit: int, tokens: int | None = None) -> PromptError:
    """The error for a prompt that does not fit.

    Args:
        prompt: the text.
        limit: how many tokens the model reads.
        tokens: how many the prompt has, where that is known.
    """
    shown = prompt if len(prompt) <= _SHOWN_CHARS else f"{prompt[:_SHOWN_CHARS]}…"
    more = "more than" if tokens is None else f"{tokens} tokens, more than"
    return PromptError(
        f"The prompt {shown!r} has {more} the {limit} tokens that the model reads",
        "shorten it, or pass --truncate to drop its end",
    )


def check_features(spec: EncoderSpec, features: Any, count: int) -> None:
    """Refuse what is not (count, D) float32.

    Raises:
        ModelError: if they are not.
    """
    found, dtype = tuple(features.shape), str(features.dtype).removeprefix("torch.")
    if found != (count, spec.embed_dim) or dtype != "float32":
        raise ModelError(
            f"The encoder {spec.name!r} gave {dtype} features of shape {found} where its spec says float32 of "
            f"shape {(count, spec.embed_dim)}",
            "correct encode_images or the spec",
        )


def _check_texts(encoder: Encoder) -> None:
    if not encoder.spec.has_text:
        _require(encoder, _refuses(encoder, "a dog"), "encode_texts must raise ModelError where has_text is false")
        return
    prompts = ["a dog", "two red circles on a table"]
    features = encoder.encode_texts(prompts)
    _require(encoder, isinstance(features, np.ndarray), "encode_texts must return a NumPy array")
    check_features(encoder.spec, features, len(prompts))
    again = encoder.encode_texts(prompts[::-1])[::-1]
    _require(encoder, _are_close(features, again), "a prompt's features depend on the prompts beside it")
    _require(encoder, not np.array_equal(features[0], features[1]), "all prompts have the same features")
    _require(encoder, _refuses(encoder, _TOO_LONG), "encode_texts must raise ModelError for a prompt that is too long")
    check_features(encoder.spec, encoder.encode_texts([_TOO_LONG], truncate=True), 1)


def _refuses(encoder: Encoder, prompt: str) -> bool:
    try:
        encoder.encode_texts([prompt])
    except ModelError:
        return True
    return False


def _are_close(a: FloatArray, b: FloatArray) -> bool:
    """Whether vectors are the same but for the order of summation: cosine and length, row by row."""
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(1) / np.maximum(lengths[0] * lengths[1], 1e-30)
    return bool((cosines > 0.99999).all() and np.allclose(lengths[0], lengths[1], rtol=1e-3))


def _require(encoder: Encoder, holds: bool, otherwise: str) -> None:
    if not holds:
        raise ModelError(f"The encoder {encoder.spec.name!r} breaks the protocol: {otherwise}")


def _values(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:g}" for value in values)
