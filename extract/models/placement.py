"""Where a model computes and how: the device, the precision and the batch size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ...cache.common.errors import UsageError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_BATCH = {"cpu": 16, "cuda": 512}


@dataclass(frozen=True)
class Placement:
    """Where and how to compute: a torch device string, "fp32", "bf16" or "fp16", and pictures per batch."""

    device: str
    precision: str
    batch_size: int

    @property
    def dtype(self) -> Any:
        """Torch's type of the precision."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]


def place(device: str = "auto", precision: str = "auto", batch_size: int | None = None) -> Placement:
    """Choose device, precision and batch size for this machine.

    Raises:
        UsageError: if this machine does not have the device, or the device not the precision.
    """
    import torch

    check_precision(precision)
    device = _device(torch, device)
    kind = device.split(":")[0]
    if precision == "auto":
        precision = "fp16" if kind == "cuda" else "bf16" if _cpu_has_bf16(torch) else "fp32"
    if precision == "fp16" and kind == "cpu":
        raise UsageError("--precision fp16 needs a CUDA device", "on the CPU choose bf16 or fp32")
    return Placement(device, precision, batch_size or _BATCH[kind])


def check_device(device: object) -> None:
    """Refuse what is not the name of a device.

    Raises:
        UsageError: if it is not "auto", "cpu", "cuda" or "cuda:N".
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise UsageError(f"Unknown device {device!r}", "choose auto, cpu, cuda or cuda:N")


def check_precision(precision: object) -> None:
    """Refuse an unknown precision.

    Raises:
        UsageError: if it is not one of `Precision`.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"Unknown precision {precision!r}", f"choose one of {', '.join(get_args(Precision))}")


def _device(torch: Any, device: str) -> str:
    check_device(device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    number = device.partition(":")[2]
    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: this torch ({torch.__version__}) sees no CUDA device", "use --device cpu")
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA device(s), from cuda:0")
    return device


def _cpu_has_bf16(torch: Any) -> bool:
    """Whether bfloat16 products run on the CPU's own instructions; elsewhere they are slower than float32."""
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
    if "AVX512" not in capability:
        return False
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
