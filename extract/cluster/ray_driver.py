"""The driver of a run on Ray: starts an actor for each device, gives out the work, and bears the loss of actors.

Ray itself is handed in as a module: importing this one imports nothing of it.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ...cache.common.errors import ClipcacheError, ModelError
from ...cache.common.quoting import quoted
from .. import interrupts
from ..inputs import HashedItem, Item
from ..prepare import Mismatches
from ..progress import Progress, Summary
from ..session import MORE_FAILED_BEFORE, NAMED_FAILURES
from .claims import drop_claims
from .ray_actor import Job, News, RayActor, Started, Told
from .scheduling import Chunk, Schedule, Seat, may_have_another, seats_of

START_S = 600.0
"""How long a run waits for an actor to start, where it has none: other jobs may be using the cluster."""

_POLL_S = 0.5
_REPORT_S = 2.0
_LOOK_S = 10.0
_SETTLED_S = 5.0
_POSTPONED_S = 5.0
_STOP_S = 10.0
_MOST_TRIES = 2
_FAILED_BEFORE = "clipcache: failed before"


@dataclass(eq=False)
class _Hand:
    """An actor and what it is at."""

    seat: Seat
    actor: Any
    starting: Any
    token: str = ""
    calls: deque[tuple[Any, Chunk]] = field(default_factory=deque)
    reporting: Any = None
    frames: int = 0
    settled_frames: int = 0
    is_ready: bool = False

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for _, chunk in self.calls]


class Driver:
    """One run.

    Args:
        ray: the module, connected to a cluster.
        job: what actors are told.
        items: what to encode, with absolute paths.
        sizes: their bytes.
        model_dir: folder of the cache for the model's weights.
        progress: where to report.
    """

    def __init__(
        self, ray: Any, job: Job, items: Sequence[Item], sizes: Sequence[int], model_dir: str, progress: Progress
    ) -> None:
        self._ray = ray
        self._job = job
        self._items = items
        self._sizes = sizes
        self._model_folder = job.cache_dir / model_dir
        self._progress = progress
        self._schedule = Schedule(sizes)
        self._again: list[tuple[int, str]] = []  # items to be tried once more, and the node that they failed on
        self._postponed: list[int] = []
        self._look_at_postponed = 0.0
        self._hands: list[_Hand] = []
        self._closed = Counter[str]()  # seats whose actor could not start, by node
        self._problem: ClipcacheError | None = None
        self._is_nobody_left = self._is_waiting = False
        self._precision = ""
        self._tries = Counter[int]()
        self._said = Counter[str]()
        self._mismatches = Mismatches(job.options)
        self.summary = Summary(shard=job.options.shard)
        self._seen = self._looked = self._reported = 0.0

    def run(self) -> None:
        """Work until every item is over.

        Raises:
            ClipcacheError: if no actor can go on, with what the last one said.
            KeyboardInterrupt: see `interrupts`.
        """
        self._seen = time.monotonic()
        self._progress.hashed(sum(self._sizes))  # by the actors, as they go
        self._progress.found(len(self._items), sum(self._sizes))
        try:
            while self._is_work_left():
                self._start_actors()
                self._check_alive()
                self._give_out()
                self._wait()
                interrupts.check()
        finally:
            self._end()
            self._progress.close()
        for sentence in self._mismatches.sentences():
            self._progress.say(f"clipcache: {sentence}")

    def _is_work_left(self) -> bool:
        return bool(len(self._schedule) or self._again or self._postponed or any(hand.calls for hand in self._hands))

    # Actors

    def _start_actors(self) -> None:
        """Start an actor at each free seat: at the beginning, and later where nodes have joined or actors were lost."""
        if self._looked and time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        free = Counter(seats_of(self._ray.nodes(), self._job.options.device))
        free.subtract(hand.seat for hand in self._hands)
        for seat, count in free.items():
            for _ in range(count - self._closed[seat.node]):
                self._hands.append(self._start(seat))
        self._is_nobody_left = not self._hands

    def _start(self, seat: Seat) -> _Hand:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(concurrency_groups={"control": 1})(RayActor).options(
            num_cpus=seat.cpus,
            num_gpus=seat.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node, soft=False),
        )
        actor = remote.remote(self._job.on("cuda" if seat.gpus else "cpu"), seat.cpus)
        return _Hand(seat, actor, actor.start.remote())

    def _check_alive(self) -> None:
        if any(hand.is_ready for hand in self._hands):
            self._seen = time.monotonic()
        elif self._is_nobody_left and self._problem is not None:
            raise self._problem
        elif time.monotonic() - self._seen > START_S:
            what = "CUDA device" if self._job.options.device == "cuda" else "device"
            raise ClipcacheError(
                f"For {START_S / 60:.0f} minutes no {what} of the Ray cluster could be used",
                "see `ray status` for what it has and who uses it",
            )

    def _started(self, hand: _Hand, said: Started | ClipcacheError) -> None:
        if isinstance(said, Started):
            self._precision = self._precision or said.precision
            if said.precision == self._precision:
                hand.is_ready, hand.token = True, said.token
                return
            drop_claims(self._model_folder, said.token)
            said = ModelError(
                f"{hand.seat.host} would encode in {said.precision}, the others in {self._precision}",
                f"choose one for all: --precision {self._precision}",
            )
        self._retire(hand, said)

    def _retire(self, hand: _Hand, problem: ClipcacheError) -> None:
        """An actor cannot start, or cannot go on: its videos go elsewhere, and no other takes its place."""
        self._problem = problem
        self._closed[hand.seat.node] += 1
        self._say(str(problem))
        self._kill(hand)
        self._forget(hand, str(problem))

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """An actor has died; one that never started is not started again."""
        why = _lines(error)[0]
        if not hand.is_ready and self._is_alive(hand.seat):
            problem = f"No Ray actor could start on {hand.seat.host} ({why})"
            self._retire(hand, ClipcacheError(problem, "see the log of Ray there"))
            return
        at = f"; its {sum(len(chunk.rows) for chunk in hand.chunks)} item(s) go elsewhere" if hand.calls else ""
        self._say(f"The Ray actor on {hand.seat.host} is lost ({why}){at}.")
        self._problem = ClipcacheError("All Ray actors are lost", "what is done is kept; run the command again")
        self._looked = time.monotonic() - _LOOK_S + _SETTLED_S  # another one can begin soon, if the node is alive
        self._kill(hand)  # it may only be out of reach
        self._forget(hand, why)

    def _is_alive(self, seat: Seat) -> bool:
        return any(node["NodeID"] == seat.node and node["Alive"] for node in self._ray.nodes())

    def _kill(self, hand: _Hand) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(hand.actor)

    def _forget(self, hand: _Hand, why: str) -> None:
        self._hands.remove(hand)
        self._progress_by(hand.settled_frames - hand.frames)
        if hand.token:
            drop_claims(self._model_folder, hand.token)
        for number, chunk in enumerate(hand.chunks):
            if number == 0:  # what waited behind it was not begun
                self._tries.update(chunk.rows)
            self._try_elsewhere(
                hand, chunk.rows, f"The actors of Ray that were at it ended twice, the second time so: {why}"
            )

    def _try_elsewhere(self, hand: _Hand, rows: Iterable[int], why_not: str) -> None:
        """Hand items out again, each alone, but for those that had their two tries: these have failed."""
        for row in rows:
            if self._tries[row] < _MOST_TRIES:
                self._again.append((row, hand.seat.node))
                continue
            path = self._items[row].path
            sentence = why_not if quoted(path) in why_not else f"{quoted(path)}: {why_not}"
            self.summary.failed += 1
            self.summary.failures[str(path)] = sentence
            self._over(row, f"failed: {sentence}")
            if not self._progress.verbose:
                self._say(sentence)

    # Work

    def _give_out(self) -> None:
        """Give work to all in turn, so that the largest items are spread."""
        self._take_up_postponed()
        ready = [hand for hand in self._hands if hand.is_ready]
        for depth in (0, 1):
            for hand in ready:
                if len(hand.calls) == depth and may_have_another(hand.chunks) and (chunk := self._next_for(hand)):
                    call = hand.actor.encode.remote([(row, self._items[row]) for row in chunk.rows])
                    hand.calls.append((call, chunk))

    def _next_for(self, hand: _Hand) -> Chunk | None:
        """The next work for an actor: what failed elsewhere first; on its own node only where no other is."""
        nodes = {other.seat.node for other in self._hands if other.is_ready}
        for number, (row, node) in enumerate(self._again):
            if node != hand.seat.node or nodes == {node}:
                del self._again[number]
                return Chunk((row,), self._sizes[row])
        return self._schedule.take(len(self._hands))  # those that start still get their part

    def _take_up_postponed(self) -> None:
        """Ask again for what other runs were at, where nothing else waits."""
        if not self._postponed or len(self._schedule) or time.monotonic() < self._look_at_postponed:
            return
        if not self._is_waiting and not any(hand.calls for hand in self._hands):
            self._is_waiting = True
            self._say(f"other runs are at the last {len(self._postponed)} item(s); waiting for them")
        self._schedule.put_back(self._postponed)
        self._postponed.clear()

    def _wait(self) -> None:
        """Take in what is over, for half a second at most."""
        self._ask_for_news()
        refs = {ref: hand for hand in self._hands for ref in self._refs(hand)}
        if not refs:
            time.sleep(_POLL_S)
            return
        done, _ = self._ray.wait(list(refs), num_returns=1, timeout=_POLL_S)
        done, _ = self._ray.wait(list(refs), num_returns=len(refs), timeout=0) if done else ([], None)
        for ref in done:
            if refs[ref] in self._hands:
                self._take_in(refs[ref], ref)

    def _refs(self, hand: _Hand) -> Iterator[Any]:
        if not hand.is_ready:
            yield hand.starting
        if hand.reporting is not None:
            yield hand.reporting
        yield from (ref for ref, _ in hand.calls)

    def _take_in(self, hand: _Hand, ref: Any) -> None:
        try:
            said = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            self._lose(hand, error)
            return
        except self._ray.exceptions.RayError as error:  # a fault of the program, on that node
            self._retire(hand, ClipcacheError(f"{hand.seat.host}: {_lines(error)[-1]}"))
            return
        if ref == hand.starting:
            self._started(hand, said)
        elif ref == hand.reporting:
            hand.reporting = None
            self._take_news(hand, said)
        elif isinstance(said, Told):
            chunk = next(chunk for call, chunk in hand.calls if call == ref)
            hand.calls.remove((ref, chunk))
            self._take_result(hand, chunk, said)
        elif said is not None:
            self._retire(hand, said)

    def _ask_for_news(self) -> None:
        if time.monotonic() - self._reported < _REPORT_S:
            return
        self._reported = time.monotonic()
        for hand in self._hands:
            if hand.calls and hand.reporting is None:
                hand.reporting = hand.actor.report.options(concurrency_group="control").remote()

    def _take_news(self, hand: _Hand, news: News) -> None:
        self._progress_by(news.frames - hand.frames)
        hand.frames = news.frames
        for line in news.lines:
            self._say_line(line)

    def _take_result(self, hand: _Hand, chunk: Chunk, told: Told) -> None:
        self._take_news(hand, told.news)
        hand.settled_frames = hand.frames
        _add(self.summary, told.summary)
        self._mismatches.add(told.mismatches)
        for row in set(chunk.rows) - set(told.unreadable) - set(told.postponed):
            self._over(row, told.outcomes.get(row, "cached"))
        self._tries.update(list(told.unreadable))
        for row, sentence in told.unreadable.items():
            self._try_elsewhere(hand, [row], sentence)
        if told.postponed:
            self._postponed.extend(told.postponed)
            self._look_at_postponed = time.monotonic() + _POSTPONED_S

    def _over(self, row: int, outcome: str) -> None:
        item = HashedItem(self._items[row], str(row), self._sizes[row])
        self._progress.item(item, outcome, failed=outcome.startswith("failed: "))

    # Messages

    def _progress_by(self, frames: int) -> None:
        if frames:
            self._progress.advance(None, frames)

    def _say(self, sentence: str) -> None:
        self._progress.say(f"clipcache: {sentence}")

    def _say_line(self, line: str) -> None:
        """Say what an actor says, once; of what failed before no more than a plain run says."""
        self._said[line] += 1
        if self._said[line] > 1:
            return
        if line.startswith(_FAILED_BEFORE):
            self._said[_FAILED_BEFORE] += 1
            if self._said[_FAILED_BEFORE] > NAMED_FAILURES:
                self._say_line(MORE_FAILED_BEFORE)
                return
        self._progress.say(line)

    def _end(self) -> None:
        """End all actors, cleanly where they answer."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            ready = [hand for hand in self._hands if hand.is_ready]
            stopping = [hand.actor.stop.options(concurrency_group="control").remote() for hand in ready]
            if stopping:
                self._ray.wait(stopping, num_returns=len(stopping), timeout=_STOP_S)
        for hand in self._hands:
            self._kill(hand)
            drop_claims(self._model_folder, hand.token)


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]


def _add(summary: Summary, part: Summary) -> None:
    """Count in a summary what a part of the run has counted; seconds are of this clock."""
    for each in fields(summary):
        value = getattr(part, each.name)
        if isinstance(value, int | float) and each.name != "seconds":
            setattr(summary, each.name, getattr(summary, each.name) + value)
    summary.failures.update(part.failures)
