"""What the driver of a Ray run does with what actors say: Ray and the actors are stand-ins."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clipcache.cache.common.errors import CacheError, ClipcacheError
from clipcache.cache.common.messages import show_progress
from clipcache.extract import ExtractOptions
from clipcache.extract.cluster import ray_driver
from clipcache.extract.cluster.ray_actor import Job, News, Started, Told
from clipcache.extract.cluster.ray_driver import Driver
from clipcache.extract.cluster.scheduling import Seat
from clipcache.extract.inputs import Item
from clipcache.extract.prepare import Mismatches
from clipcache.extract.progress import Progress, ProgressReport, Summary

Encode = Callable[[Sequence[int]], Any]
OPTIONS = ExtractOptions(model="demo")


def told(rows: Sequence[int], **more: Any) -> Told:
    """Every row is extracted, but for those that `more` names."""
    left_out = {*more.get("unreadable", {}), *more.get("postponed", ())}
    done = {row: "1 frames" for row in rows if row not in left_out}
    kept = {"unreadable": {}, "postponed": ()} | more
    return Told(Summary(extracted=len(done)), News((), 0), done, mismatches=Mismatches(OPTIONS), **kept)


class StandIn:
    """Ray with a node for each actor; results are there at once, and an error among them is raised."""

    class exceptions:  # noqa: N801  as in Ray
        class RayError(Exception): ...

        class RayActorError(RayError): ...

    def __init__(self, actors: dict[str, tuple[Any, Encode]]) -> None:
        self.actors = actors
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.killed: list[str] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": name not in self.killed, "Resources": {"CPU": 1}} for name in self.actors]

    def start(self, seat: Seat) -> Any:
        started, encode = self.actors[seat.node]

        def call(items: list[tuple[int, Item]]) -> Any:
            rows = tuple(row for row, _ in items)
            self.calls.append((seat.node, rows))
            return encode(rows)

        methods = {"encode": call, "report": lambda: News((), 0), "stop": lambda: None, "start": lambda: started}
        actor = SimpleNamespace(name=seat.node, **{name: self._method(method) for name, method in methods.items()})
        return ray_driver._Hand(seat, actor, actor.start.remote())

    def _method(self, method: Callable[..., Any]) -> Any:
        remote = lambda *given: SimpleRef(method(*given))  # noqa: E731
        return SimpleNamespace(remote=remote, options=lambda **_: SimpleNamespace(remote=remote))

    def wait(self, refs: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return refs, []

    def get(self, ref: Any) -> Any:
        if isinstance(ref.value, Exception) and not isinstance(ref.value, ClipcacheError):
            raise ref.value
        return ref.value

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.name)


class SimpleRef:
    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.fixture
def reports() -> list[ProgressReport]:
    return []


@pytest.fixture
def run(
    tmp_path: Path, reports: list[ProgressReport], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Driver, StandIn]]:
    monkeypatch.setattr(ray_driver, "_POSTPONED_S", 0.0)
    monkeypatch.setattr(ray_driver, "_SETTLED_S", 0.0)

    def run(items: int, /, **actors: tuple[Any, Encode]) -> tuple[Driver, StandIn]:
        ray = StandIn(actors)
        monkeypatch.setattr(Driver, "_start", lambda _, seat: ray.start(seat))
        job = Job(tmp_path, "marker", OPTIONS, "0" * 64)
        found = [Item(Path(f"/{row}.mp4"), "video") for row in range(items)]
        progress = Progress("frames", verbose=False, show=True, on_progress=reports.append)
        driver = Driver(ray, job, found, [1 << 30] * items, "demo-0", progress)
        try:
            with show_progress():
                driver.run()
        finally:
            run.ray = ray  # type: ignore[attr-defined]
        return driver, ray

    return run


GOOD = Started("token", "fp32")


def test_what_a_node_cannot_read_is_tried_on_another(run: Any) -> None:
    driver, ray = run(
        4,
        blind=(GOOD, lambda rows: told(rows, unreadable={row: f"'/{row}.mp4' is not there" for row in rows})),
        good=(GOOD, told),
    )
    assert driver.summary.extracted == 4
    assert driver.summary.failures == {}
    assert {rows for node, rows in ray.calls if node == "good"} == {(0,), (1,), (2,), (3,)}


def test_what_no_node_can_read_has_failed(run: Any, reports: list[ProgressReport]) -> None:
    def cannot_read_2(rows: Sequence[int]) -> Told:
        return told(rows, unreadable={row: f"'/{row}.mp4' is not there" for row in rows if row == 2})

    driver, ray = run(4, a=(GOOD, cannot_read_2), b=(GOOD, cannot_read_2))
    assert driver.summary.extracted == 3
    assert driver.summary.failures == {"/2.mp4": "'/2.mp4' is not there"}
    assert (reports[-1].items_done, reports[-1].items_total, reports[-1].failed) == (4, 4, 1)
    assert {node for node, rows in ray.calls if rows == (2,)} == {"a", "b"}


def test_what_other_runs_are_at_is_asked_for_again(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    times = itertools.count()
    driver, ray = run(1, a=(GOOD, lambda rows: told(rows) if next(times) else told(rows, postponed=rows)))
    assert driver.summary.extracted == 1
    assert ray.calls == [("a", (0,)), ("a", (0,))]
    assert "other runs are at the last 1 item(s)" in capsys.readouterr().err


def test_an_actor_that_cannot_go_on_gets_nothing_more(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    driver, ray = run(5, full=(GOOD, lambda _: CacheError("No space on b")), good=(GOOD, told))
    assert driver.summary.extracted == 5
    assert len([node for node, _ in ray.calls if node == "full"]) == 1
    assert "clipcache: No space on b." in capsys.readouterr().err


def test_if_no_actor_can_go_on_the_run_ends_with_what_the_last_one_said(run: Any) -> None:
    with pytest.raises(CacheError, match="No space"):
        run(3, a=(GOOD, lambda _: CacheError("No space")), b=(CacheError("No cache"), told))


def test_actors_of_another_precision_get_nothing(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    driver, ray = run(3, a=(GOOD, told), b=(Started("other", "bf16"), told))
    assert driver.summary.extracted == 3
    assert {node for node, _ in ray.calls} == {"a"}
    assert "b would encode in bf16, the others in fp32; choose one for all: --precision fp32" in capsys.readouterr().err


def test_a_lost_actor_costs_a_try_of_what_it_was_at_alone(run: Any) -> None:
    lost = StandIn.exceptions.RayActorError("node died")
    driver, ray = run(4, a=(GOOD, lambda _: lost), good=(GOOD, told))
    assert driver.summary.extracted == 4
    assert driver.summary.failures == {}
    assert len([node for node, _ in ray.calls if node == "a"]) == 1
    assert "a" in ray.killed
