"""The optimiser Muon: momentum whose directions are all made equally strong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised momentum of each matrix (Jordan et al., 2024).

    A picture's patches differ mostly in their mean colour. Adam follows that for thousands of steps before edges and
    grain are heard; here each direction of a matrix moves alike from the start.

    Args:
        matrices: parameters of two or more dimensions.
        lr: size of a step, in root mean square of about 0.2 as Adam's are.
        momentum: share of the past.
        weight_decay: as AdamW's.
    """

    def __init__(
        self, matrices: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Move all matrices once."""
        del closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        mean = state.setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - group["momentum"])
        ahead = torch.lerp(weight.grad, mean, group["momentum"]).flatten(1)
        step = orthogonal(ahead).mul_(0.2 * max(ahead.shape) ** 0.5)
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(step.view_as(weight), alpha=-group["lr"])


def orthogonal(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Bring all singular values near one, by Newton and Schulz's iteration."""
    a, b, c = _COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
