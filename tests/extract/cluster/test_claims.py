"""Runs over one cache share the work: what one is at, the others leave alone, unless it is gone."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
from clipcache.cache.common.hashing import sha256_file
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.cluster import claims as claims_module
from clipcache.extract.cluster import work_queue
from clipcache.extract.cluster.claims import _ASIDE, STALE_AFTER_S, Claim, Claims, Owner, list_claims, owner_of
from clipcache.extract.cluster.work_queue import Known, WorkQueue
from clipcache.extract.inputs import HashedItem, Item
from extract_runs import Cli, assert_sound, extract_words, start_extract, wait_until
from video_files import make_video

ALL = Sampling()
VIDEOS = 18


def item(number: int = 0) -> HashedItem:
    return HashedItem(Item(Path(f"{number}.mp4"), "video"), f"{number:064x}"[::-1], 1)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_run_has_an_item_at_a_time(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take(item(), ALL)
    assert one.take(item(), ALL), "it is its own"
    assert not other.take(item(), ALL)
    assert other.take(item(), Sampling(fps=2)), "that is another entry"
    assert other.take(item(1), ALL)
    one.release(item(), ALL)
    assert other.take(item(), ALL)
    one.close()
    other.close()
    assert files(tmp_path) == []
    assert not (tmp_path / ".claims").exists()


def test_a_claim_says_whose_it_is(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.take(item(), ALL)
    owner = owner_of(files(tmp_path)[0])
    assert owner is not None
    assert owner.pid == os.getpid()
    assert owner.is_gone is False
    (files(tmp_path)[0].parent / f"other{_ASIDE}0").touch()
    [listed] = list_claims(tmp_path)
    assert (listed.name, listed.owner, listed.is_stale) == (item().sha256[:16], owner, False)
    assert listed.path == str(Path("0.mp4").absolute())
    assert abs(datetime.fromisoformat(listed.since).timestamp() - time.time()) < 60
    claims.close()
    assert list_claims(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", "[" * 100_000, '{"host": 1, "pid": 9e999}', "\0" * (1 << 17)),
        *(json.dumps({**asdict(Owner.this_process()), "pid": pid}) for pid in (-1, 0, 10**30)),
    ],
)
def test_what_is_no_claim_is_listed_as_nobodys(text: str, tmp_path: Path) -> None:
    (tmp_path / ".claims").mkdir()
    (tmp_path / ".claims" / "0123456789abcdef").write_text(text)
    assert list_claims(tmp_path) == [Claim("0123456789abcdef", None, "", "", is_stale=False)]


def of_a_dead_process(owner: Owner) -> Owner:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return replace(owner, pid=process.pid)


def of_an_earlier_process(owner: Owner) -> Owner:
    """The number is that of this process, which began later."""
    return replace(owner, started=f"{owner.started}0")


def of_another_host(owner: Owner) -> Owner:
    return replace(owner, host="elsewhere-1")


@pytest.mark.parametrize("harm", [of_a_dead_process, of_an_earlier_process])
def test_the_claim_of_a_process_that_is_gone_is_taken_over(harm: Callable[[Owner], Owner], tmp_path: Path) -> None:
    gone, claims = Claims(tmp_path), Claims(tmp_path)
    assert gone.take(item(), ALL)
    [path] = files(tmp_path)
    path.write_text(json.dumps(asdict(harm(Owner.this_process()))))
    assert claims.take(item(), ALL)
    gone.release(item(), ALL)
    assert files(tmp_path) == [path], "it is no longer the other's to remove"
    claims.close()
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"host": 1}', json.dumps(asdict(of_another_host(Owner.this_process())))]
)
def test_of_what_cannot_be_asked_the_heartbeat_tells(text: str, tmp_path: Path) -> None:
    other, claims = Claims(tmp_path), Claims(tmp_path)
    assert other.take(item(), ALL)
    [path] = files(tmp_path)
    path.write_text(text)
    assert not claims.take(item(), ALL)
    old = time.time() - STALE_AFTER_S - 1
    os.utime(path, (old, old))
    assert claims.take(item(), ALL)
    claims.close()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "HEARTBEAT_S", 0.01)
    claims = Claims(tmp_path)
    claims.take(item(), ALL)
    [path] = files(tmp_path)
    os.utime(path, (0, 0))
    wait_until(lambda: path.stat().st_mtime > 0, "a heartbeat")
    claims.close()


def test_of_many_that_take_over_one_succeeds(tmp_path: Path) -> None:
    dead = Claims(tmp_path)
    dead.take(item(), ALL)
    [path] = files(tmp_path)
    path.write_text(json.dumps(asdict(of_a_dead_process(Owner.this_process()))))
    code = """
import sys
from pathlib import Path
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.cluster.claims import Claims
from clipcache.extract.inputs import HashedItem, Item
claims = Claims(Path(sys.argv[1]))
item = HashedItem(Item(Path("0.mp4"), "video"), sys.argv[2], 1)
sys.stdin.readline()
print(claims.take(item, Sampling()), flush=True)
sys.stdin.readline()
"""
    words = [sys.executable, "-c", code, str(tmp_path), item().sha256]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen(words, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for taker in takers:
        taker.stdin.write("\n")
        taker.stdin.flush()
    answers = [taker.stdout.readline().strip() for taker in takers]
    for taker in takers:
        taker.communicate("\n")
    assert sorted(answers) == ["False", "False", "False", "True"]


def test_the_last_run_leaves_nothing_of_those_that_were_killed(tmp_path: Path) -> None:
    killed, alive, last = Claims(tmp_path), Claims(tmp_path), Claims(tmp_path)
    killed.take(item(), ALL)
    [path] = files(tmp_path)
    path.write_text(json.dumps(asdict(of_a_dead_process(Owner.this_process()))))
    alive.take(item(1), ALL)
    last.close()
    assert path not in files(tmp_path)
    assert len(files(tmp_path)) == 1
    alive.close()
    assert not (tmp_path / ".claims").exists()


def test_where_claims_cannot_be_written_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".claims").write_text("in the way")
    assert Claims(tmp_path).take(item(), ALL)


def test_a_full_disk_keeps_no_claim_that_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(claims_module.json, "dumps", fail)
    assert Claims(tmp_path).take(item(), ALL)
    assert files(tmp_path) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others are at is looked at again at once."""
    monkeypatch.setattr(work_queue, "_POLL_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_queue_leaves_what_others_are_at_and_comes_back_to_it(tmp_path: Path) -> None:
    other, own = Claims(tmp_path), Claims(tmp_path)
    items = [item(number) for number in range(10)]
    for one in items[:4]:
        other.take(one, ALL)
    asked: dict[str, bool] = {}
    queue = WorkQueue(Known(items), ALL, own, lambda one, met: asked.setdefault(one.sha256, met) and one is items[2])
    first = list(iter(queue.take, None))
    assert {one.sha256 for one in first} == {one.sha256 for one in items[4:]}
    assert len(queue) == 4
    other.close()
    assert {one.sha256 for one in iter(queue.take, None)} == {items[0].sha256, items[1].sha256, items[3].sha256}
    assert {sha256: asked[sha256] for sha256 in asked} == {one.sha256: one in items[:4] for one in items}
    assert len(queue) == 0
    own.close()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(VIDEOS):
        make_video(folder / f"{number}.mp4", frames=20 + number, size=(64, 48))
    return folder


@pytest.mark.once
@pytest.mark.parametrize("is_one_killed", [False, True])
def test_three_runs_share_the_work(is_one_killed: bool, library: Path, tiny_weights: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = [*extract_words(cache, tiny_weights), "--num-workers", "1", "--json", str(library)]
    runs = [start_extract(*words) for _ in range(3)]
    if is_one_killed:
        wait_until(lambda: list(cache.glob("*/.claims/*")) or runs[0].poll() is not None, "a claim")
        wait_until(lambda: list(cache.glob("*/*/*.h5")) or runs[0].poll() is not None, "an entry")
        os.killpg(runs[0].pid, signal.SIGKILL)
    said = [run.communicate() for run in runs]
    alive = runs[1:] if is_one_killed else runs
    assert [run.returncode for run in alive] == [0] * len(alive), said
    summaries = [json.loads(out) for out, _ in said if out]
    extracted = sum(summary["extracted"] for summary in summaries)
    assert extracted == VIDEOS or (is_one_killed and extracted < VIDEOS)
    assert all(summary["extracted"] + summary["cached"] == VIDEOS for summary in summaries)
    assert len(list(cache.glob("*/*/*.h5"))) == VIDEOS
    assert list(cache.glob("*/.claims")) == []
    assert_sound(cache)


@pytest.mark.usefixtures("impatient")
def test_a_run_waits_for_what_another_is_at(library: Path, clipcache: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other finishes none of its videos: in the end all are encoded here."""
    assert clipcache(library / "0.mp4").code == 0
    [model] = clipcache.cache_dir.glob("tiny-*")
    other = Claims(model)
    for number in range(3, 6):
        other.take(hashed(library / f"{number}.mp4"), ALL)
    monkeypatch.setattr(WorkQueue, "wait", lambda _: other.close())
    outcome = clipcache(library)
    assert "other runs are at the last 3 item(s); waiting for them" in outcome.err
    assert f"{VIDEOS - 1} extracted, 1 cached" in outcome.out


def hashed(path: Path) -> HashedItem:
    return HashedItem(Item(path, "video"), sha256_file(path), path.stat().st_size)


def test_runs_without_claims_take_no_heed(library: Path, clipcache: Cli) -> None:
    assert clipcache(library / "0.mp4", "--no-claims").code == 0
    [model] = clipcache.cache_dir.glob("tiny-*")
    other = Claims(model)
    other.take(hashed(library / "1.mp4"), ALL)
    outcome = clipcache(library / "1.mp4", "--no-claims")
    assert "1 extracted" in outcome.out
    other.close()


@pytest.mark.usefixtures("impatient")
def test_what_another_run_gave_up_is_not_tried_again(
    library: Path, clipcache: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = library / "bad.mp4"
    bad.write_bytes(b"\0" * 100)
    assert clipcache(bad).code == 1
    log = clipcache.cache_dir / "failed.jsonl"
    line = log.read_text()
    log.unlink()
    assert clipcache(library / "0.mp4").code == 0
    [model] = clipcache.cache_dir.glob("tiny-*")
    other = Claims(model)
    other.take(hashed(bad), ALL)

    def give_up(_: WorkQueue) -> None:
        log.write_text(line)
        other.close()

    monkeypatch.setattr(WorkQueue, "wait", give_up)
    outcome = clipcache(library)
    assert f"{VIDEOS - 1} extracted, 1 cached, 0 partial, 0 failed, 1 failed before" in outcome.out
    assert "failed before, not tried again without --retry-failed" in outcome.err


def test_claims_of_others_are_looked_at_again_only_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, own = Claims(tmp_path), Claims(tmp_path)
    for number in range(3):
        other.take(item(number), ALL)
    tried: list[HashedItem] = []
    take = own.take
    monkeypatch.setattr(own, "take", lambda one, sampling: tried.append(one) or take(one, sampling))
    queue = WorkQueue(Known([item(number) for number in range(3)]), ALL, own)
    assert [queue.take() for _ in range(50)] == [None] * 50
    assert len(tried) <= 6
    assert (len(queue), queue.is_over, queue.waits_for_others) == (3, False, True)
    other.close()
    monkeypatch.setattr(queue, "_look_again", 0.0)
    assert {one.sha256 for one in iter(queue.take, None)} == {item(number).sha256 for number in range(3)}
    assert queue.is_over
    own.close()


def test_a_queue_that_goes_elsewhere_passes_over_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, own = Claims(tmp_path), Claims(tmp_path)
    other.take(item(0), ALL)
    monkeypatch.setattr("random.randrange", lambda _: 1)
    queue = WorkQueue(Known([item(0), item(1)]), ALL, own)
    assert queue.take() == item(1)
    assert queue.take() is None
    assert queue.leave() == [item(0)]
    assert queue.is_over
    for claims in (other, own):
        claims.close()
