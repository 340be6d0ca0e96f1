"""How to extract: the options of a run over pictures and of a run over sound, checked where they are made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

from ..cache.common.errors import UsageError
from ..cache.format.sampling import Sampling
from .audio.windows import Windows
from .cluster.shards import Shard
from .models.placement import Precision, check_device, check_precision
from .models.weights import DEFAULT_MODEL
from .remote.scratch import SCRATCH_BYTES
from .workers.sizing import STALL_SECONDS, START_SECONDS

Decoder = Literal["auto", "decord", "pyav"]
Dtype = Literal["float16", "float32"]

EVERY_FRAME = Sampling()
DEFAULT_WINDOWS = Windows()


@dataclass(frozen=True)
class ExtractOptions:
    """How to extract pictures. The defaults are those of the command line.

    Attributes:
        model: one of OpenAI's names in any spelling, one of open_clip's (open_clip:ARCH/TAG, hf-hub:ORG/NAME), that of
            a registered encoder, or any name together with `weights`.
        weights: path of a file with the model's weights; None takes OpenAI's, downloaded on first use.
        trust_weights: open a TorchScript archive that is not OpenAI's own; such a file can run code.
        device: "auto", "cpu", "cuda", "cuda:N", "cuda:all", or several with commas between: a process encodes on each.
        precision: "auto", "fp32", "bf16" or "fp16"; auto is fp16 on CUDA, bf16 on CPUs that compute in it, else fp32.
        batch_size: pictures per batch, 1 or more; None chooses by device.
        num_workers: decoding processes, 0 or more; None chooses, 0 decodes in this process.
        decoder: "auto", "decord" or "pyav".
        sampling: which frames of each video.
        dtype: "float16" or "float32", of the cached features.
        quality: store the measures of `video.pixel_measures` of each frame too; what is cached without them is encoded
            again.
        overwrite: encode again what is cached.
        retry_failed: try again what failed before.
        memory_limit: bytes that the run may use, 0 or more; None for no limit.
        verbose: one line per item on stderr.
        debug: show the decoders' own messages.
        stall_seconds: a worker that decodes nothing for so many seconds is killed; more than 0.
        start_seconds: a worker that has not started after so many seconds is killed; more than 0.
        claims: share the work with other runs into the same cache.
        shard: the part of the inputs that this run takes; None for all.
        scratch: folder for copies of inputs from elsewhere; None takes the system's for temporary files.
        scratch_bytes: of these copies at once, 0 or more; a larger one is alone.

    Raises:
        UsageError: if a value is not one of these.
    """

    model: str = DEFAULT_MODEL
    weights: str | os.PathLike[str] | None = None
    trust_weights: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    num_workers: int | None = None
    decoder: Decoder = "auto"
    sampling: Sampling = EVERY_FRAME
    dtype: Dtype = "float16"
    quality: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    memory_limit: int | None = None
    verbose: bool = False
    debug: bool = False
    stall_seconds: float = STALL_SECONDS
    start_seconds: float = START_SECONDS
    claims: bool = True
    shard: Shard | None = None
    scratch: str | os.PathLike[str] | None = None
    scratch_bytes: int = SCRATCH_BYTES

    def __post_init__(self) -> None:
        _check_type("model", self.model, str, "give its name, such as 'ViT-B/32'")
        _check_path("weights", self.weights)
        check_device(self.device)
        check_precision(self.precision)
        _check_count("batch_size", self.batch_size, least=1)
        _check_count("num_workers", self.num_workers, least=0)
        _check_choice("decoder", self.decoder, Decoder)
        _check_type("sampling", self.sampling, Sampling, "give one, such as Sampling(fps=2)")
        _check_choice("dtype", self.dtype, Dtype)
        _check_count("memory_limit", self.memory_limit, least=0)
        _check_positive("stall_seconds", self.stall_seconds)
        _check_positive("start_seconds", self.start_seconds)
        _check_shard(self.shard)
        _check_path("scratch", self.scratch)
        _check_count("scratch_bytes", self.scratch_bytes, least=0)


@dataclass(frozen=True)
class SoundOptions:
    """How to extract sound. The defaults are those of the command line.

    Attributes:
        weights: path of the folder of a saved CLAP model; None takes the published one, downloaded on first use.
        windows: which windows of the sound are encoded.
        device: as in `ExtractOptions`; of several the first is used.
        batch_size: windows per batch, 1 or more; None chooses by device.
        num_workers: decoding processes, 0 or more; None chooses, 0 decodes in this process, without protection.
        dtype: "float16" or "float32", of the cached features.
        overwrite: encode again what is cached.
        retry_failed: try again what failed before.
        memory_limit: bytes that the run may use, 0 or more; None for no limit.
        verbose: one line per file on stderr.
        debug: show the decoders' own messages.
        stall_seconds: a worker that decodes nothing for so many seconds is killed; more than 0.
        start_seconds: a worker that has not started after so many seconds is killed; more than 0.
        claims: share the work with other runs into the same cache.
        shard: the part of the inputs that this run takes; None for all.
        scratch: folder for copies of inputs from elsewhere; None takes the system's for temporary files.
        scratch_bytes: of these copies at once, 0 or more; a larger one is alone.

    Raises:
        UsageError: if a value is not one of these.
    """

    weights: str | os.PathLike[str] | None = None
    windows: Windows = DEFAULT_WINDOWS
    device: str = "auto"
    batch_size: int | None = None
    dtype: Dtype = "float16"
    overwrite: bool = False
    retry_failed: bool = False
    verbose: bool = False
    num_workers: int | None = None
    memory_limit: int | None = None
    debug: bool = False
    stall_seconds: float = STALL_SECONDS
    start_seconds: float = START_SECONDS
    claims: bool = True
    shard: Shard | None = None
    scratch: str | os.PathLike[str] | None = None
    scratch_bytes: int = SCRATCH_BYTES

    def __post_init__(self) -> None:
        _check_path("weights", self.weights)
        _check_type("windows", self.windows, Windows, "give them, such as Windows(window_s=5, hop_s=2.5)")
        check_device(self.device)
        _check_count("batch_size", self.batch_size, least=1)
        _check_choice("dtype", self.dtype, Dtype)
        _check_count("num_workers", self.num_workers, least=0)
        _check_count("memory_limit", self.memory_limit, least=0)
        _check_positive("stall_seconds", self.stall_seconds)
        _check_positive("start_seconds", self.start_seconds)
        _check_shard(self.shard)
        _check_path("scratch", self.scratch)
        _check_count("scratch_bytes", self.scratch_bytes, least=0)


def _check_choice(name: str, value: object, literal: Any) -> None:
    choices = get_args(literal)
    if value not in choices:
        raise UsageError(f"{name} cannot be {value!r}", f"choose {', '.join(choices[:-1])} or {choices[-1]}")


def _check_count(name: str, value: object, *, least: int) -> None:
    is_count = not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least
    if value is not None and not is_count:
        raise UsageError(f"{name} cannot be {value!r}", f"give a whole number, {least} or more, or None")


def _check_positive(name: str, value: object) -> None:
    if not (isinstance(value, Real) and float(value) > 0):
        raise UsageError(f"{name} cannot be {value!r}", "give a number, more than 0")


def _check_type(name: str, value: object, kind: type, remedy: str) -> None:
    if not isinstance(value, kind):
        raise UsageError(f"{name} cannot be {value!r}", remedy)


def _check_shard(value: object) -> None:
    if value is not None:
        _check_type("shard", value, Shard, "give one, such as Shard(0, 64), or None")


def _check_path(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} cannot be {value!r}", "give a path as a str or a Path, or None")
