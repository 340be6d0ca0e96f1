"""Pictures and prompts to CLIP features, in batches, on the device at hand.

Frames arrive as uint8 and are normalised on the device. Nothing here normalises features: they are kept as the model
returns them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.digest import DigestMemo
from ..cache.errors import ModelError, UsageError
from ..cache.key import canonical_model
from .models import DEMO_MODEL, OPENAI_MODELS, WeightsFile, find_weights, load_model
from .preprocess import make_resize, read_image

FloatArray = npt.NDArray[np.float32]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation, per RGB channel, of values in 0..1 (openai/CLIP, clip.py)."""

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_BATCH = {"cpu": 32, "cuda": 512}


@dataclass(frozen=True)
class Placement:
    """Where and how to compute: a torch device string, "fp32", "bf16" or "fp16", and pictures per batch."""

    device: str
    precision: str
    batch_size: int


def place(device: str = "auto", precision: str = "auto", batch_size: int | None = None) -> Placement:
    """Choose device, precision and batch size for this machine.

    Raises:
        UsageError: A device that is not there, or a precision that it cannot compute.
    """
    import torch

    device = _device(torch, device)
    kind = device.split(":")[0]
    if precision not in PRECISIONS:
        raise UsageError(f"Unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        precision = "fp16" if kind == "cuda" else "bf16" if _cpu_has_bf16(torch) else "fp32"
    if precision == "fp16" and kind == "cpu":
        raise UsageError("--precision fp16 needs a CUDA device; on the CPU choose bf16 or fp32.")
    return Placement(device, precision, batch_size or _BATCH[kind])


def _device(torch: Any, device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return device
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"Unknown device {device!r}; choose auto, cpu, cuda or cuda:N.")
    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: this torch ({torch.__version__}) sees no CUDA device; use --device cpu.")
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA device(s), from cuda:0."
        )
    return device


def _cpu_has_bf16(torch: Any) -> bool:
    """Whether bfloat16 products run on the CPU's own instructions; elsewhere they are slower than float32."""
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
    if "AVX512" not in capability:
        return False
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


class FrameEncoder:
    """The picture half of a CLIP model on its device.

    Attributes:
        embed_dim: Length of a feature vector.
        input_size: Side of a picture in pixels.
        logit_scale: exp of the model's learned temperature, about 100.
        placement: Device, precision and batch size.
        weights: What was loaded.
        in_flight: Batches worth starting before the first result is read.
    """

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        import torch

        self._torch = torch
        model = load_model(weights, trust=trust)
        self.weights = weights
        self.placement = placement
        self.logit_scale = float(model.logit_scale.exp())
        self.embed_dim = int(model.text_projection.shape[1])
        self.input_size = int(model.visual.input_resolution)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[placement.precision]
        self._visual = _cast(torch, model.visual, dtype).to(placement.device)
        self._cuda = placement.device.startswith("cuda")
        self.in_flight = 2 if self._cuda else 1
        self._upload = torch.cuda.Stream(placement.device) if self._cuda else None
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(MEAN, device=placement.device).view(shape) * 255
        self._std = torch.tensor(STD, device=placement.device).view(shape) * 255
        self._dtype = dtype

    def new_batch(self) -> Any:
        """A (batch, size, size, 3) uint8 tensor to fill: pinned where the device copies from it by itself."""
        shape = (self.placement.batch_size, self.input_size, self.input_size, 3)
        with self._memory_errors():
            return self._torch.empty(shape, dtype=self._torch.uint8, pin_memory=self._cuda)

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """Turn torch's several ways of running out of memory into one sentence."""
        try:
            yield
        except (self._torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower():
                raise
            raise UsageError(
                f"Not enough memory on {self.placement.device} for batches of {self.placement.batch_size} pictures; "
                "choose a smaller --batch-size."
            ) from error

    def encode(self, pictures: Any) -> PendingFeatures:
        """Start encoding (n, size, size, 3) uint8 pictures; the tensor must stay untouched until the result is read."""
        with self._torch.inference_mode(), self._memory_errors():
            return self._start_on_cuda(pictures) if self._cuda else PendingFeatures(self._forward(pictures), None)

    def _forward(self, on_device: Any) -> Any:
        scaled = (on_device.permute(0, 3, 1, 2).float() - self._mean) / self._std
        return self._visual(scaled.to(self._dtype)).float()

    def _start_on_cuda(self, pictures: Any) -> PendingFeatures:
        """Queue upload, encoding and download; the upload has a stream of its own, beside the batch being encoded."""
        torch = self._torch
        with torch.cuda.device(self.placement.device):
            compute = torch.cuda.current_stream()
            with torch.cuda.stream(self._upload):
                on_device = pictures.to(self.placement.device, non_blocking=True)
            compute.wait_stream(self._upload)
            on_device.record_stream(compute)  # its memory was allocated on the other stream
            features = self._forward(on_device)
            host = torch.empty(features.shape, dtype=torch.float32, pin_memory=True)
            host.copy_(features, non_blocking=True)
            done = torch.cuda.Event()
            done.record(compute)
        return PendingFeatures(host, done)


@dataclass(frozen=True)
class PendingFeatures:
    """Features that the device may still be computing."""

    _host: Any
    _done: Any

    def result(self) -> FloatArray:
        """(n, D) float32, after waiting for the device."""
        if self._done is not None:
            self._done.synchronize()
        features: FloatArray = self._host.numpy()
        return features


def _cast(torch: Any, module: Any, dtype: Any) -> Any:
    """Cast all but the layer norms, which CLIP computes in float32 whatever goes in."""
    module = module.to(dtype)
    for part in module.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.float()
    return module


class PromptEncoder:
    """Prompts and reference pictures to features, in float32: few of them, so exactness is free."""

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        import torch

        self._torch = torch
        self._device = placement.device
        self._model = load_model(weights, trust=trust).to(placement.device)
        self._resize = make_resize(int(self._model.visual.input_resolution), "torch")

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """(P, D) float32 features of prompts, not normalised.

        Raises:
            ModelError: A prompt longer than the model's context, unless `truncate`.
        """
        rows = [
            self._encode_tokens(self._tokenize(prompts[i : i + 256], truncate)) for i in range(0, len(prompts), 256)
        ]
        return np.concatenate(rows)

    def encode_images(self, paths: Sequence[Path]) -> FloatArray:
        """(I, D) float32 features of picture files, not normalised.

        Raises:
            MediaError: A file that is no picture.
        """
        torch = self._torch
        rows = []
        for path in paths:
            picture = torch.from_numpy(self._resize(read_image(path))).to(self._device)
            scaled = (
                picture.permute(2, 0, 1).float() / 255 - torch.tensor(MEAN, device=self._device).view(3, 1, 1)
            ) / (torch.tensor(STD, device=self._device).view(3, 1, 1))
            with torch.inference_mode():
                rows.append(self._model.encode_image(scaled.unsqueeze(0)).float().cpu().numpy())
        return np.concatenate(rows)

    def _encode_tokens(self, tokens: Any) -> FloatArray:
        with self._torch.inference_mode():
            features: FloatArray = self._model.encode_text(tokens.to(self._device)).float().cpu().numpy()
        return features

    def _tokenize(self, prompts: Sequence[str], truncate: bool) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pkg_resources, on itself and on editable installs
            import clip

        rows = []
        for prompt in prompts:
            try:
                rows.append(clip.tokenize([prompt], context_length=self._model.context_length, truncate=truncate))
            except RuntimeError as error:
                raise ModelError(
                    f"The prompt {prompt!r} is longer than the {self._model.context_length} tokens that the model "
                    "reads; shorten it, or pass --truncate to drop its end."
                ) from error
        return self._torch.cat(rows)


def load_reference_encoder(
    model: str, weights_sha256: str, *, weights: Path | None = None, device: str = "auto", trust: bool = False
) -> PromptEncoder:
    """The encoder for questions to features that were made with the given weights.

    Args:
        model: The name that the cache records.
        weights_sha256: The checksum that the cache records.
        weights: A file to use; None looks for the one used before, then for OpenAI's download.
        device: "auto", "cpu", "cuda" or "cuda:N".
        trust: As in `load_model`.

    Raises:
        ModelError: The weights cannot be found, or are not the ones that made the features.
    """
    memo = DigestMemo()
    name = canonical_model(model)
    known = name == DEMO_MODEL or (name in OPENAI_MODELS and OPENAI_MODELS[name].sha256 == weights_sha256)
    if weights is None and not known:
        weights = next(iter(memo.paths_of(weights_sha256)), None)
        if weights is None:
            raise ModelError(
                f"The features were made with weights {weights_sha256[:16]}… of {model}, which are not where they "
                "were; name the file with --weights."
            )
    found = find_weights(name, weights, memo)
    if found.sha256 != weights_sha256:
        raise ModelError(
            f"The weights {found.path} ({found.sha256[:16]}…) are not those that made the features "
            f"({weights_sha256[:16]}…); scores would mean nothing."
        )
    return PromptEncoder(found, place(device), trust=trust)
