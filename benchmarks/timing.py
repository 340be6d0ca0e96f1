"""Sides measured in turns, and the arithmetic of their ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Rounds:
    """What each side measured in each round.

    Attributes:
        values: By side, one number a round.
    """

    values: Mapping[str, list[float]]

    @property
    def count(self) -> int:
        """Rounds."""
        return len(next(iter(self.values.values())))

    def median(self, side: str) -> float:
        """Of one side."""
        return median(self.values[side])

    def ratio(self, above: str, below: str) -> float:
        """Median over the rounds of `above / below`: what slows a whole round down slows both."""
        return median(a / b for a, b in zip(self.values[above], self.values[below], strict=True))

    def middle(self, above: str, below: str) -> str:
        """The ratios of the rounds without the lowest and the highest quarter, in words."""
        ratios = [a / b for a, b in zip(self.values[above], self.values[below], strict=True)]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return f"{low:.3f} to {high:.3f}"

    def ratio_to(self, above: str, bound: Callable[[Mapping[str, float]], float]) -> float:
        """Median over the rounds of `above` to what `bound` makes of all sides of that round."""
        return median(one[above] / bound(one) for one in self.rounds())

    def median_of(self, bound: Callable[[Mapping[str, float]], float]) -> float:
        """Median over the rounds of what `bound` makes of all sides of a round."""
        return median(bound(one) for one in self.rounds())

    def rounds(self) -> list[Mapping[str, float]]:
        """The sides of each round."""
        return [dict(zip(self.values, one, strict=True)) for one in zip(*self.values.values(), strict=True)]


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> Rounds:
    """Run the sides in turns, A B A B, so that a slow minute of the machine meets all of them."""
    values: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            values[name].append(measure())
    return Rounds(values)


def seconds_of(action: Callable[[], object]) -> float:
    """Wall-clock seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def cpu_seconds_of(action: Callable[[], object]) -> float:
    """Seconds of all cores that this process spends on an action: what runs beside it on the machine hardly counts."""
    started = time.process_time()
    action()
    return time.process_time() - started
