"""`clipcache extract` in a child of its own, with the clock where the work is."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .child import Child

if TYPE_CHECKING:
    from .context import Context


@dataclasses.dataclass(frozen=True)
class Extracted:
    """How a run went.

    Attributes:
        frames: Frames cached.
        encoded: Pictures encoded; fewer where frames repeat.
        steady_seconds: From the first frame index read (workers are up, the model is loaded) to the last entry written.
        whole_seconds: From the start of the process to its end.
    """

    frames: int
    encoded: int
    steady_seconds: float
    whole_seconds: float

    @property
    def rate(self) -> float:
        """Frames/s of the steady part."""
        return self.frames / self.steady_seconds

    @property
    def whole_rate(self) -> float:
        """Frames/s with everything that a user waits for."""
        return self.frames / self.whole_seconds


def extract(
    context: Context,
    inputs: Sequence[Path],
    *,
    model: str | None = None,
    workers: int | None = None,
    cache: Path | None = None,
) -> Extracted:
    """Extract in a fresh process, into a cache that is thrown away unless it is given."""
    model, folder = model or context.model, cache or context.folder()
    weights = context.weights(model)
    started = time.perf_counter()
    asked = {"inputs": list(inputs), "cache": folder, "model": model, "weights": weights, "workers": workers}
    with contextlib.closing(Child(context.environment)) as child:
        told = child.call(run_extract, **asked)
    whole = time.perf_counter() - started
    if cache is None:
        shutil.rmtree(folder)
    return Extracted(told["frames"], told["encoded"], told["seconds"], whole)


def run_extract(inputs: list[str], cache: str, model: str, weights: str, workers: int | None) -> dict[str, Any]:
    """In the child: extract, and time it from the first index to the last entry.

    The clock hangs on the progress bar, which hears of both.

    Raises:
        RuntimeError: Not every input was extracted whole.
    """
    from clipcache.extract import ExtractOptions
    from clipcache.extract import extract as run
    from clipcache.extract.progress import Progress

    first, last = [], []
    expect, item = Progress.expect, Progress.item

    def timed_expect(self: Any, *given: Any) -> None:
        first.append(time.perf_counter())
        expect(self, *given)

    def timed_item(self: Any, *given: Any) -> None:
        last.append(time.perf_counter())
        item(self, *given)

    Progress.expect, Progress.item = timed_expect, timed_item  # type: ignore[method-assign]
    try:
        summary = run(inputs, cache, ExtractOptions(model=model, weights=Path(weights), num_workers=workers))
    finally:
        Progress.expect, Progress.item = expect, item  # type: ignore[method-assign]
    if summary.extracted != len(inputs) or summary.partial:
        raise RuntimeError(f"{summary.as_text()} of {len(inputs)}: {summary.failures}")
    return {"frames": summary.frames, "encoded": summary.encoded, "seconds": last[-1] - first[0]}


def placement() -> dict[str, Any]:
    """In a child: where and how clipcache encodes here, and with how many decoding workers."""
    from clipcache.extract.models.placement import place
    from clipcache.extract.workers.sizing import choose_workers

    chosen = place()
    return {**dataclasses.asdict(chosen), "workers": choose_workers(None, chosen.device, None).count}
