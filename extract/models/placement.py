"""Where a model computes and how: the device, the precision and the batch size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ...cache.common.errors import UsageError
from ...cache.common.options import check_one_device

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_BATCH = {"cpu": 16, "cuda": 512}
_ALL_CUDA = "cuda:all"


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
        UsageError: if this machine does not have the device, or the device not the precision, or several are named.
    """
    import torch

    check_precision(precision)
    check_device(device)
    check_one_device(device)
    device = _device(torch, device)
    kind = device.split(":")[0]
    if precision == "auto":
        precision = "fp16" if kind == "cuda" else "bf16" if _cpu_has_bf16(torch) else "fp32"
    if precision == "fp16" and kind == "cpu":
        raise UsageError("--precision fp16 needs a CUDA device", "on the CPU choose bf16 or fp32")
    return Placement(device, precision, batch_size or _BATCH[kind])


def place_each(devices: str = "auto", precision: str = "auto", batch_size: int | None = None) -> list[Placement]:
    """The same for one or several devices: a placement each, all of one precision.

    Args:
        devices: as `check_device` takes them.
        precision: of all.
        batch_size: of each; None chooses by device.

    Raises:
        UsageError: as `place`, and if "auto" would mean several precisions.
    """
    check_device(devices)
    names = devices.split(",")
    if _ALL_CUDA in names:
        names = [each for name in names for each in (_all_cuda() if name == _ALL_CUDA else [name])]
    placements = [place(name, precision, batch_size) for name in names]
    if len({placement.precision for placement in placements}) > 1:
        means = ", ".join(f"{placement.precision} on {placement.device}" for placement in placements)
        raise UsageError(
            f"--device {devices}: --precision auto means {means}, but the features of a run have one precision",
            "choose one that all of them have, such as --precision fp32",
        )
    return placements


def first_device(devices: str) -> str:
    """The first of one or several devices, for what runs on one alone."""
    first = devices.split(",")[0]
    return "cuda" if first == _ALL_CUDA else first


def check_device(devices: object) -> None:
    """Refuse what is not the name of a device, or of several.

    Raises:
        UsageError: if it is not "auto", nor any of "cpu", "cuda", "cuda:N" and "cuda:all" with commas between.
    """
    one = r"(cpu|cuda(:[0-9]+|:all)?)"
    if not isinstance(devices, str) or not re.fullmatch(rf"auto|{one}(,{one})*", devices):
        raise UsageError(
            f"Unknown device {devices!r}", "choose auto, cpu, cuda, cuda:N, cuda:all, or several: cuda:0,cuda:1"
        )


def check_precision(precision: object) -> None:
    """Refuse an unknown precision.

    Raises:
        UsageError: if it is not one of `Precision`.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"Unknown precision {precision!r}", f"choose one of {', '.join(get_args(Precision))}")


def _all_cuda() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        raise _without_cuda(torch, _ALL_CUDA)
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def _device(torch: Any, device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    number = device.partition(":")[2]
    if not torch.cuda.is_available():
        raise _without_cuda(torch, device)
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA device(s), from cuda:0")
    return device


def _without_cuda(torch: Any, device: str) -> UsageError:
    return UsageError(f"--device {device}: this torch ({torch.__version__}) sees no CUDA device", "use --device cpu")


def _cpu_has_bf16(torch: Any) -> bool:
    """Whether bfloat16 products run on the CPU's own instructions; elsewhere they are slower than float32."""
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
    if "AVX512" not in capability:
        return False
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
