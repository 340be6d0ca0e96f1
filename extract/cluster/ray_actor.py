"""One device of a Ray cluster: it encodes what the driver gives it into the shared cache, and tells how it went.

Nothing here imports Ray: `ray_driver` makes an actor of `RayActor`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import __version__
from ...cache.common.atomic import host_name
from ...cache.common.errors import CacheError, ClipcacheError, ModelError, UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import quoted
from ...cache.failure_log import FailureLog
from ...cache.format.names import model_dir_name
from ...cache.format.sampling import Sampling
from ...cache.store import FeatureCache
from ..engine import PictureEngine
from ..inputs import HashedItem, Item
from ..models.registry import find_weights
from ..options import ExtractOptions
from ..plan import Planner, Step
from ..prepare import Mismatches, PreparedPictures, find_cached
from ..progress import Progress, Summary
from ..run import PictureSession
from ..session import Session
from ..workers.sizing import choose_workers, usable_cores
from .claims import Claims
from .work_queue import WorkQueue


@dataclass(frozen=True)
class Job:
    """What every actor of a run is told.

    Attributes:
        cache_dir: absolute path of the cache, on a disk that all nodes share.
        marker: name of a file that the driver has put there.
        options: how to extract; paths are absolute.
        sha256: checksum of the weights.
        version: of clipcache.
    """

    cache_dir: Path
    marker: str
    options: ExtractOptions
    sha256: str
    version: str = __version__

    def on(self, device: str) -> Job:
        """The same on a device: what "auto" means is the driver's choice."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, device=device))


@dataclass(frozen=True)
class Started:
    """What an actor says once it can encode: the token of its claims, and the precision that it encodes in."""

    token: str
    precision: str


@dataclass(frozen=True)
class News:
    """What an actor has to say at any time.

    Attributes:
        lines: to be shown; each is told once.
        frames: how many it has cached or is at, since its start.
    """

    lines: tuple[str, ...]
    frames: int


@dataclass(frozen=True)
class Told:
    """What became of a chunk.

    Attributes:
        summary: how it went, without what is below.
        news: as ever.
        outcomes: what became of each item that is over, in words, by its number.
        unreadable: items that this node could not read, and why.
        postponed: items that other runs are at.
        mismatches: what `Mismatches` counted.
    """

    summary: Summary
    news: News
    outcomes: dict[int, str]
    unreadable: dict[int, str]
    postponed: tuple[int, ...]
    mismatches: Mismatches


class RayActor:
    """Encodes on one device.

    `report` and `stop` may be called in another thread while `encode` runs.

    Args:
        job: what is to be done.
        cpus: how many of the node's cores are this actor's.
    """

    def __init__(self, job: Job, cpus: int) -> None:
        self._job = job
        self._cpus = cpus
        self._telling = _Telling(verbose=job.options.verbose)
        self._is_stopped = threading.Event()
        self._busy = threading.Lock()

    def start(self) -> Started | ClipcacheError:
        """Check that cache, weights and program are the driver's, and load the model; or say why that cannot be."""
        try:
            return self._start()
        except ClipcacheError as error:
            return error

    def _start(self) -> Started:
        job = self._job
        if job.version != __version__:
            raise UsageError(
                f"A node of the Ray cluster, {host_name()}, has clipcache {__version__}, the driver {job.version}",
                "install the same version everywhere",
            )
        if not (job.cache_dir / job.marker).exists():
            raise CacheError(
                f"The cache {quoted(job.cache_dir)} of the driver is not there on {host_name()}",
                "put it on a disk that all nodes of the Ray cluster share, under the same path",
            )
        self._memo = DigestMemo()
        self._weights = find_weights(job.options.model, job.options.weights, self._memo)
        if self._weights.sha256 != job.sha256:
            raise ModelError(
                f"The weights {quoted(self._weights.path)} on {host_name()} are not those of the driver: "
                f"their sha256 begins with {self._weights.sha256[:8]}, not with {job.sha256[:8]}",
                "copy the driver's file there",
            )
        self._options = _with_cores(job.options, self._cpus)
        self._engine = PictureEngine(self._weights, self._options, self._telling.say)
        self._model_dir = model_dir_name(self._weights.model, self._weights.sha256)
        self._cache = FeatureCache(job.cache_dir)
        self._claims = Claims(job.cache_dir / self._model_dir)
        return Started(self._claims.token, self._engine.encoder.placement.precision)

    def encode(self, items: Sequence[tuple[int, Item]]) -> Told | ClipcacheError | None:
        """Encode items, each with the number by which it is told of; after `start`.

        Returns:
            How it went; an error, if this actor cannot go on; None if it was stopped.
        """
        with self._busy:
            if self._is_stopped.is_set():
                return None
            try:
                return self._encode(items)
            except KeyboardInterrupt:
                return None
            except ClipcacheError as error:
                return error

    def _encode(self, items: Sequence[tuple[int, Item]]) -> Told:
        rows = {item.path: row for row, item in items}
        prepared = self._prepared([item for _, item in items])
        session = _Chunk(prepared, self._engine, self._telling, self._claims, self._cache, self._is_stopped.is_set)
        try:
            session.carry_out()
        except UsageError as error:  # not one of them can be read
            for _, item in items:
                session.unreadable.setdefault(item.path, str(error))
        outcomes = {rows[path]: outcome for path, outcome in self._telling.take_outcomes().items()}
        unreadable = {rows[path]: sentence for path, sentence in session.unreadable.items()}
        postponed = tuple(rows[item.item.path] for item in session.postponed)
        return Told(session.summary, self.report(), outcomes, unreadable, postponed, prepared.mismatches)

    def _prepared(self, items: Sequence[Item]) -> PreparedPictures:
        """Like `prepare_items`, without listing the cache and looking for the weights each time."""
        options, cache, model_dir = self._options, self._cache, self._model_dir
        mismatches = Mismatches(options)

        def is_cached(sha256: str) -> bool:
            path = find_cached(cache, model_dir, sha256, options)
            mismatches.note(path, cache.find(model_dir, sha256, options.sampling))
            return path is not None

        failed = FailureLog(self._job.cache_dir).read(model_dir)
        planner = Planner(is_cached, failed, overwrite=options.overwrite, retry_failed=options.retry_failed)
        return PreparedPictures(
            self._job.cache_dir, model_dir, items, self._memo, planner, failed, self._weights, options, mismatches
        )

    def report(self) -> News:
        """What there is to say."""
        return self._telling.take_news()

    def stop(self) -> None:
        """End what is being done, and give back what is claimed."""
        self._is_stopped.set()
        with self._busy:
            if hasattr(self, "_claims"):
                self._claims.close()
                self._engine.close()


def _with_cores(options: ExtractOptions, cpus: int) -> ExtractOptions:
    """Options with decoding workers for this actor's part of the cores, unless their number is given."""
    if options.num_workers is not None:
        return options
    chosen = choose_workers(None, options.device, options.memory_limit).count
    return dataclasses.replace(options, num_workers=max(1, chosen * min(cpus, usable_cores()) // usable_cores()))


class _Chunk(PictureSession):
    """A run over one chunk: what belongs to the actor is used, and nothing is waited for."""

    def __init__(
        self,
        prepared: PreparedPictures,
        engine: PictureEngine,
        telling: _Telling,
        claims: Claims,
        cache: FeatureCache,
        is_stopped: Callable[[], bool],
    ) -> None:
        super().__init__(prepared, telling, engine)
        self.unreadable: dict[Path, str] = {}
        self.postponed: list[HashedItem] = []
        self._claims = claims
        self._opened = cache
        self._is_stopped = is_stopped

    def carry_out(self) -> None:
        """See `Session`; of what was encoded otherwise the driver tells, for all chunks."""
        Session.carry_out(self)

    def _make_ready(self) -> None:
        """The driver has done it."""

    def _open_cache(self) -> FeatureCache:
        return self._opened

    @contextmanager
    def _queue(self, sampling: Sampling, *, claims: bool) -> Iterator[WorkQueue]:
        yield WorkQueue(self._feed, sampling, self._claims if claims else None, self._was_done_by_another)

    def _wait(self, queue: WorkQueue) -> None:
        """Leave to the driver what other runs are at: it gives something else meanwhile."""
        if queue.waits_for_others:
            self.postponed = queue.leave()
        else:
            super()._wait(queue)

    def _note(self, step: Step) -> None:
        if step.item.problem is not None:
            self.unreadable[step.item.item.path] = str(step.item.problem)  # another node may have its disk
        else:
            super()._note(step)

    def on_frames(self, item: HashedItem, frames: int) -> None:
        """See `PictureSession`."""
        super().on_frames(item, frames)
        self._check()

    def _on_wait(self, seconds: float) -> None:
        super()._on_wait(seconds)
        self._check()

    def _check(self) -> None:
        if self._is_stopped():
            raise KeyboardInterrupt


class _Telling(Progress):
    """Keeps for the driver what a bar would show; it draws nothing."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self._frames = 0
        self._lines: deque[str] = deque()
        self._outcomes: dict[Path, str] = {}

    def take_news(self) -> News:
        """The lines that were not taken yet, and the frames so far; another thread may ask."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return News(tuple(lines), self._frames)

    def take_outcomes(self) -> dict[Path, str]:
        """What became of items since the last time."""
        outcomes, self._outcomes = self._outcomes, {}
        return outcomes

    def advance(self, *given: Any) -> None:
        """See `Progress`."""
        self._frames += given[-1]

    def item(self, item: HashedItem, outcome: str, *_: Any, **__: Any) -> None:
        """See `Progress`."""
        self.detail(item, outcome)

    def detail(self, item: HashedItem, outcome: str) -> None:
        """See `Progress`."""
        self._outcomes[item.item.path] = outcome

    def say(self, line: str, *_: Any) -> None:
        """See `Progress`."""
        self._lines.append(line)

    def _ignore(self, *_: Any, **__: Any) -> None:
        """The driver knows it, or is told in another way."""

    found = hashed = skip = begin = expect = resume = tick = close = _ignore
