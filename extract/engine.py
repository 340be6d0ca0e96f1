"""What encodes pictures in a run, or in one run after another: the model on its devices, the workers that decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .devices.group import DeviceGroup
from .models.frame_encoder import FrameEncoder, PictureEncoder
from .models.placement import Placement, place_each
from .models.weights import WeightsFile
from .options import ExtractOptions
from .workers.pool import InProcessPool, WorkerPool
from .workers.sizing import Workers, choose_workers


class PictureEngine:
    """What encodes pictures: the model on its devices, and the workers that decode. It serves one run after another.

    Args:
        weights: of the model.
        options: as asked for.
        say: called with a sentence if a device is lost.

    Attributes:
        encoder: encodes.
        pool: decodes.
        resize: the backend that resizes, "torch" or "pil".
        threads: of each decoder; 0 for its own choice.

    Raises:
        UsageError: if this machine does not have the device or the precision.
        ModelError: if weights are missing, damaged or of another model.
    """

    def __init__(self, weights: WeightsFile, options: ExtractOptions, say: Callable[[str], None]) -> None:
        placements = place_each(options.device, options.precision, options.batch_size)
        devices = ",".join(placement.device for placement in placements)
        workers = choose_workers(options.num_workers, devices, options.memory_limit)
        self.resize = workers.resize
        self.threads = min(workers.count, 1)
        self.encoder = _open_encoder(weights, placements, options, say)
        try:
            self.pool = self._pool(workers, options)
        except BaseException:
            self.encoder.close()
            raise

    def _pool(self, workers: Workers, options: ExtractOptions) -> WorkerPool | InProcessPool:
        size, rule = self.encoder.input_size, self.encoder.spec.resize
        if workers.count == 0:
            return InProcessPool(size, workers.resize, rule)
        return WorkerPool(
            workers.count,
            size,
            workers.resize,
            rule,
            quiet=not options.debug,
            stall_seconds=options.stall_seconds,
            start_seconds=options.start_seconds,
        )

    def close(self, *, kill: bool = False) -> None:
        """End the workers, at once if `kill`, and the encoder."""
        try:
            self.pool.close(kill=kill)
        finally:
            self.encoder.close()


def _open_encoder(
    weights: WeightsFile, placements: Sequence[Placement], options: ExtractOptions, say: Callable[[str], None]
) -> PictureEncoder:
    """In this process for one device; a process each for several."""
    if len(placements) == 1:
        return FrameEncoder(weights, placements[0], trust=options.trust_weights)
    return DeviceGroup(
        weights,
        placements,
        say,
        trust=options.trust_weights,
        quiet=not options.debug,
        start_seconds=options.start_seconds,
    )
