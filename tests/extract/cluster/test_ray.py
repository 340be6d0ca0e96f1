"""Runs on Ray: two nodes on this host share the work, and what is lost on the way is done again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.common.atomic import remove_stale_temporaries
from clipcache.cache.common.errors import CacheError, ModelError, UsageError
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.cache.format.names import model_dir_name
from clipcache.cache.format.sampling import Sampling
from clipcache.extract import ExtractOptions, extract
from clipcache.extract.cluster import ray_driver, ray_run
from clipcache.extract.cluster.claims import Claims, drop_claims, owner_of
from clipcache.extract.cluster.ray_actor import Job, RayActor, Started, Told
from clipcache.extract.cluster.ray_run import extract_on_ray
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.models.registry import find_weights
from clipcache.extract.run import PictureSession
from extract_runs import Cli, assert_sound, extract_words, is_running, read_failures, start_extract, wait_until
from video_files import make_video

VIDEOS = 10
OBJECT_STORE = 100 << 20


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of different lengths, a copy, and a file that is none."""
    folder = tmp_path_factory.mktemp("library")
    for number in range(VIDEOS):
        make_video(folder / f"{number}.mp4", frames=60 + 20 * number, size=(64, 48))
    shutil.copy(folder / "3.mp4", folder / "copy.mp4")
    (folder / "bad.mp4").write_bytes(b"\0" * 100)
    return folder


@pytest.fixture
def options(tiny_weights: Path) -> ExtractOptions:
    return ExtractOptions(model="tiny", weights=tiny_weights, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def plain(library: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a run without Ray."""
    cache = tmp_path_factory.mktemp("plain") / "cache"
    extract([library], cache, ExtractOptions(model="tiny", weights=tiny_weights, device="cpu", precision="fp32"))
    return cache


@pytest.fixture(scope="module")
def cluster(_isolated_session: None) -> Iterator[Any]:
    """A cluster of this machine, whose head encodes nothing; `with_nodes` adds nodes that do."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written to the home folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # else whatever else runs here goes first
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        session = cluster.head_node.get_session_dir_path()
        yield cluster
        cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


def with_nodes(cluster: Any, count: int) -> Any:
    """The cluster with so many nodes that encode, at least: an earlier test may have killed one."""
    while len(cluster.worker_nodes) < count:
        cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    return cluster


def claim_files(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*/.claims/*") if ".stale" not in path.name]


def claimers(cache: Path, name: str = "") -> set[int]:
    """Process ids of those who hold claims, on the content of this name."""
    owners = [owner_of(path) for path in claim_files(cache) if path.name.startswith(name)]
    return {owner.pid for owner in owners if owner is not None}


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


@contextlib.contextmanager
def beside(harm: Callable[[], bool]) -> Iterator[threading.Event]:
    """Call `harm` again and again while something runs, until it says that it was done; give whether it was."""
    is_over, was_done = threading.Event(), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01) and not was_done.is_set():
            if harm():
                was_done.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield was_done
    finally:
        is_over.set()
        thread.join()


def assert_equal(cache: Path, plain: Path) -> None:
    """The entries are those of the plain run, each once, with the same bits."""
    remove_stale_temporaries(cache)  # of an actor that was killed while it wrote; the next run does it
    assert_sound(cache)
    entries, expected = (
        {entry.attributes.video_sha256: entry for entry in FeatureCache(folder)} for folder in (cache, plain)
    )
    assert len(FeatureCache(cache)) == len(entries) == VIDEOS
    assert entries.keys() == expected.keys()
    for sha256, entry in entries.items():
        assert np.array_equal(entry.features, expected[sha256].features)
        assert np.array_equal(entry.timestamps_ms, expected[sha256].timestamps_ms)
    assert [path.name for path in cache.glob("*/.claims")] == []


def start_on(cluster_address: str, cache: Path, options: ExtractOptions, library: Path) -> Any:
    """The command in a process of its own, until it has written an entry and is at another one."""
    words = [*extract_words(cache, Path(str(options.weights))), "--ray", cluster_address, str(library)]
    driver = start_extract(*words)
    wait_until(lambda: driver.poll() is not None or (list(cache.glob("*/*/*.h5")) and claimers(cache)), "an entry")
    return driver


@pytest.mark.once
@pytest.mark.allow_error_logs
def test_neither_a_killed_driver_nor_a_killed_node_costs_an_entry(
    cluster: Any, library: Path, plain: Path, options: ExtractOptions, tmp_path: Path, capfd: Any, caplog: Any
) -> None:
    cache = tmp_path / "cache"
    with_nodes(cluster, 2)
    driver = start_on(cluster.address, cache, options, library)
    actors = claimers(cache)
    driver.kill()
    assert driver.communicate()[0] == ""
    wait_until(lambda: not any(map(is_running, actors)), "the actors' end")
    done = len(FeatureCache(cache))
    assert 1 <= done < VIDEOS
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    assert len(raylets) == 2
    ended = claimers(cache)

    def kill() -> bool:
        """End the node of whichever actor is at a video, and the actor with it."""
        for pid in claimers(cache) - ended:
            if parent_of(pid) in raylets:
                node = raylets[parent_of(pid)]
                os.kill(pid, signal.SIGKILL)
                cluster.remove_node(node, allow_graceful=False)
                return True
        return False

    with beside(kill) as was_killed:
        summary = extract_on_ray([library], cache, options, cluster.address)
    assert was_killed.is_set()
    assert summary.extracted <= VIDEOS - done
    assert summary.extracted + summary.cached == VIDEOS + 1
    assert summary.failed + summary.failed_before == 1
    assert [failure["path"] for failure in read_failures(cache)] == [str(library / "bad.mp4")]
    assert_equal(cache, plain)
    assert capfd.readouterr().out == ""
    assert "is lost" in caplog.text


@pytest.mark.once
@pytest.mark.allow_error_logs
def test_a_video_that_ends_its_actor_twice_has_failed(
    cluster: Any, library: Path, options: ExtractOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_driver, "_SETTLED_S", 0.2)
    cache, deadly = tmp_path / "cache", library / "9.mp4"
    name, killed = sha256_file(deadly)[:16], set[int]()

    def kill() -> bool:
        for pid in claimers(cache, name) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return len(killed) == 2

    with beside(kill):
        summary = extract_on_ray([deadly, library / "0.mp4"], cache, options, with_nodes(cluster, 1).address)
    assert len(killed) == 2
    assert list(summary.failures) == [str(deadly)]
    assert "ended twice" in summary.failures[str(deadly)]
    assert summary.failed == 1
    assert summary.extracted + summary.cached == 1
    assert read_failures(cache) == [], "it is tried again next time"
    remove_stale_temporaries(cache)
    assert_sound(cache)


@pytest.mark.once
def test_ctrl_c_ends_a_run_on_this_machine_cleanly(
    cluster: Any,
    library: Path,
    options: ExtractOptions,
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    driver = start_on("local", cache, options, library)
    actors = claimers(cache)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out) == (130, "")
    assert "What is finished is kept" in err
    assert not any(map(is_running, actors))
    assert 1 <= len(FeatureCache(cache)) < VIDEOS
    assert_sound(cache)
    assert claim_files(cache) == []


@pytest.mark.once
def test_actors_with_other_weights_encode_nothing(
    cluster: Any, library: Path, options: ExtractOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_run, "find_weights", lambda *asked: other_weights(*asked))
    with pytest.raises(ModelError, match="are not those of the driver: their sha256 begins with"):
        extract_on_ray([library / "0.mp4"], tmp_path / "cache", options, with_nodes(cluster, 1).address)
    assert list(tmp_path.rglob("*.h5")) == []


def other_weights(*asked: Any) -> Any:
    import dataclasses

    return dataclasses.replace(find_weights(*asked), sha256="f" * 64)


# What an actor does, without Ray.


@pytest.fixture
def job(options: ExtractOptions, tmp_path: Path) -> Job:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "marker").touch()
    weights = find_weights(options.model, options.weights, DigestMemo())
    return Job(cache, "marker", options, weights.sha256)


def changed(job: Job, **values: Any) -> Job:
    import dataclasses

    return dataclasses.replace(job, **values)


def test_an_actor_refuses_another_cache_and_another_version(job: Job) -> None:
    said = RayActor(changed(job, marker="not there"), 1).start()
    assert isinstance(said, CacheError)
    assert "on a disk that all nodes of the Ray cluster share" in said.remedy
    said = RayActor(changed(job, version="0.0.0"), 1).start()
    assert isinstance(said, UsageError)
    assert "the driver 0.0.0" in said.problem


@pytest.fixture
def actor(job: Job) -> Iterator[RayActor]:
    import dataclasses

    actor = RayActor(changed(job, options=dataclasses.replace(job.options, num_workers=0)), 1)
    assert isinstance(actor.start(), Started)
    yield actor
    actor.stop()


def test_an_actor_leaves_to_others_what_they_are_at_and_says_what_it_cannot_read(
    actor: RayActor, job: Job, library: Path
) -> None:
    other = Claims(job.cache_dir / model_dir_name("tiny", job.sha256))
    claimed = library / "1.mp4"
    assert other.take(HashedItem(Item(claimed, "video"), sha256_file(claimed), 1), Sampling())
    names = {7: "0.mp4", 8: "1.mp4", 9: "missing.mp4", 10: "bad.mp4"}
    items = [(row, Item(library / name, "video")) for row, name in names.items()]
    told = actor.encode(items)
    assert isinstance(told, Told)
    assert (told.summary.extracted, told.summary.failed) == (1, 1)
    assert told.news.frames == 60
    assert told.outcomes.keys() == {7, 10}
    assert told.postponed == (8,)
    assert list(told.unreadable) == [9]
    drop_claims(job.cache_dir / model_dir_name("tiny", job.sha256), other.token)
    told = actor.encode(items[1:2])
    assert isinstance(told, Told)
    assert told.outcomes == {8: "80 frames"}
    told = actor.encode([items[2]])
    assert isinstance(told, Told)
    assert list(told.unreadable) == [9], "alone it is no error of the run"


def test_an_actor_that_is_stopped_ends_and_gives_back_what_it_is_at(
    actor: RayActor, job: Job, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped at its first frames; `stop` itself waits for `encode`, which waits here."""
    stopping = threading.Thread(target=actor.stop)
    monkeypatch.setattr(PictureSession, "on_frames", lambda *_: (stopping.start(), time.sleep(0.1)))
    items = [(0, Item(library / "0.mp4", "video"))]
    assert actor.encode(items) is None
    stopping.join()
    assert actor.encode(items) is None, "what was waiting is not begun"
    assert claim_files(job.cache_dir) == []
    assert list(job.cache_dir.rglob("*.h5")) == []


def test_claims_of_one_run_alone_are_dropped(tmp_path: Path) -> None:
    gone, alive = Claims(tmp_path), Claims(tmp_path)
    for number, claims in enumerate((gone, alive)):
        claims.take(HashedItem(Item(Path("a"), "video"), str(number) * 64, 1), Sampling())
    assert gone.token != alive.token
    drop_claims(tmp_path, gone.token)
    [left] = (tmp_path / ".claims").iterdir()
    assert left.name == "1" * 16
    drop_claims(tmp_path / "not there", gone.token)
    alive.close()


# The command.


def test_without_ray_the_command_says_how_to_install_it(
    clipcache: Cli, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = clipcache(library, "--ray", "local")
    assert outcome.code == 2
    assert outcome.complaints == ["clipcache: --ray needs Ray; install it with: pip install 'clipcache[ray]'"]
    assert not clipcache.cache_dir.exists()


def test_an_address_where_nobody_answers_is_named_at_once(clipcache: Cli, library: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        outcome = clipcache(library, "--ray", address)
    assert outcome.code == 1
    assert f"Cannot connect to a Ray cluster by --ray {address}" in outcome.err
    assert list(clipcache.cache_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"), [(["--device", "cuda:1"], "a device of its own"), (["--model", "clap"], "pictures alone")]
)
def test_what_does_not_go_with_ray_is_refused(
    words: list[str], said: str, clipcache: Cli, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", object())
    outcome = clipcache(library, "--ray", "local", *words)
    assert outcome.code == 2
    assert said in outcome.err
