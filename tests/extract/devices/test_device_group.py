"""Several devices encode what one would, to the last bit, whichever of them is slow, dies, or does not start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache.common.errors import ClipcacheError, ModelError, UsageError
from clipcache.cache.common.hashing import DigestMemo
from clipcache.cli import cli
from clipcache.extract import ExtractOptions, engine, extract
from clipcache.extract.devices import process
from clipcache.extract.devices.group import DeviceGroup
from clipcache.extract.models.batching import Batcher
from clipcache.extract.models.frame_encoder import FrameEncoder
from clipcache.extract.models.placement import Placement
from clipcache.extract.models.weights import find_weights
from clipcache.extract.provenance import recipe_of
from clipcache.extract.workers import child
from extract_runs import (
    Cli,
    assert_sound,
    children,
    extract_words,
    features_of,
    is_running,
    start_extract,
    wait_until,
)
from PIL import Image
from video_files import make_video

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = Placement("cpu", "fp32", 8)
BOOT = process._BOOT
SIZES = {"a.mp4": (64, 48), "b.mp4": (50, 98), "c.mp4": (150, 34)}
FRAMES = 45


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for name, size in SIZES.items():
        make_video(folder / name, frames=FRAMES, size=size)
    rng = np.random.default_rng(0)
    (folder / "burst").mkdir()
    for number, (width, height) in enumerate([(301, 77), (33, 500), (224, 224)]):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "burst" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def on_one(library: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Features of the library as one device gives them."""
    cache_dir = tmp_path_factory.mktemp("one")
    assert extract([library], cache_dir, options(tiny_weights)).extracted == len(SIZES) + 1
    return features_of(cache_dir)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough videos that a run can be met in its middle."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(15):
        make_video(folder / f"{number}.mp4", frames=60 + number, size=(64, 48))
    return folder


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Any:
    before = children(os.getpid())
    yield
    assert set(children(os.getpid())) <= set(before)


def options(weights: Path, **more: Any) -> ExtractOptions:
    how: dict[str, Any] = {"device": "cpu", "precision": "fp32", "batch_size": 8, "num_workers": 0, **more}
    return ExtractOptions(model="tiny", weights=weights, **how)


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sorted(found) == sorted(expected)
    for name, features in expected.items():
        np.testing.assert_array_equal(found[name], features)


def harm(monkeypatch: pytest.MonkeyPatch, number: int | None, code: str) -> None:
    """Let a process, or all of them, run `code` before it begins."""
    condition = "True" if number is None else f"json.loads(sys.argv[1])['number'] == {number}"
    program = f"{BOOT.removesuffix('main()')}\nif {condition}:\n    exec({code!r})\nmain()"
    monkeypatch.setattr(process, "_BOOT", program)


def open_group(
    weights: Path, said: list[str] | None = None, placements: Sequence[Placement] = (CPU, CPU), **more: Any
) -> DeviceGroup:
    found = find_weights("tiny", weights, DigestMemo())
    return DeviceGroup(found, placements, ([] if said is None else said).append, **more)


def test_two_devices_give_the_features_of_one(
    library: Path, on_one: dict[str, Any], clipcache: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = []
    monkeypatch.setattr("clipcache.extract.run.recipe_of", lambda *how: recipes.append(recipe_of(*how)) or recipes[-1])
    outcome = clipcache(library, "--device", "cpu,cpu", "--batch-size", "8", "--num-workers", "1")
    assert (outcome.code, outcome.complaints) == (0, [])
    assert_equal(features_of(clipcache.cache_dir), on_one)
    assert {entry.attributes.precision for entry in clipcache.entries.values()} == {"fp32"}
    make_video(library.parent / "more.mp4", frames=3)
    assert clipcache(library.parent / "more.mp4", "--batch-size", "8").code == 0
    assert recipes[0] == recipes[1] | {"threads": recipes[0]["threads"]}  # the decoders', in and beside this process


@pytest.mark.parametrize("command", [["score", "x.mp4"], ["search"], ["doctor"]])
@pytest.mark.parametrize("devices", ["cpu,cpu", "cuda:all"])
def test_other_commands_refuse_several_devices(command: list[str], devices: str) -> None:
    with pytest.raises(UsageError, match=rf"^--device {devices} means several devices, .*; name one of them"):
        cli.main([*command, "--device", devices], standalone_mode=False)


@pytest.mark.once
def test_devices_lost_on_the_way(
    library: Path, on_one: dict[str, Any], clipcache: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that is killed costs nothing but a sentence; the last ends the run, and the next goes on."""
    encode, started = DeviceGroup.encode, []

    def encode_until_killed(self: DeviceGroup, pictures: Any) -> Any:
        started.append(len(pictures))
        if len(started) in (3, 13):
            os.kill(self._processes[0].pid, signal.SIGKILL)
        return encode(self, pictures)

    monkeypatch.setattr(DeviceGroup, "encode", encode_until_killed)
    outcome = clipcache(library, "--device", "cpu,cpu", "--batch-size", "8")
    assert outcome.code == 1
    assert len(outcome.complaints) == 2
    assert "device cpu is lost, and the others go on without it: its process was killed" in outcome.complaints[0]
    assert "The last process that encodes, on cpu, is lost: its process was killed" in outcome.complaints[1]
    assert 0 < len(clipcache.entries) < len(on_one)
    assert_sound(clipcache.cache_dir)
    outcome = clipcache(library, "--batch-size", "8")
    assert outcome.code == 0
    assert_equal(features_of(clipcache.cache_dir), on_one)


@pytest.mark.once
def test_the_fastest_device_takes_most(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are as large as its own; the other divides them."""
    slowly = (
        "import time\n"
        "from clipcache.extract.models.frame_encoder import FrameEncoder\n"
        "encode = FrameEncoder.encode\n"
        "FrameEncoder.encode = lambda *arguments: time.sleep(0.7) or encode(*arguments)\n"
    )
    harm(monkeypatch, 0, slowly)
    pictures = np.random.default_rng(0).integers(0, 256, (30 * CPU.batch_size + 3, 224, 224, 3), np.uint8)
    group = open_group(tiny_weights, placements=[CPU, replace(CPU, batch_size=2 * CPU.batch_size)])
    slow, fast = group._processes
    try:
        found = through_batcher(group, pictures)
        assert slow.encoded + fast.encoded == 30 * CPU.batch_size + group.min_batch
        assert fast.encoded > 3 * slow.encoded > 0
    finally:
        group.close()
    np.testing.assert_array_equal(found, through_batcher(FrameEncoder(group.weights, CPU), pictures))


def through_batcher(encoder: Any, pictures: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found: list[Any] = []
    batcher: Batcher[None] = Batcher(encoder, lambda _, some: found.append(some.copy()))
    for piece in np.array_split(pictures, 5):
        batcher.add(None, piece)
    batcher.flush()
    return np.concatenate(found)


OUT_OF_MEMORY = (
    "from clipcache.cache.common.errors import UsageError\n"
    "from clipcache.extract.models.frame_encoder import FrameEncoder\n"
    "def fail(*_, **__): raise UsageError('Not enough memory on cpu', 'choose a smaller --batch-size')\n"
    "FrameEncoder.{name} = fail\n"
)


@pytest.mark.once
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("sys.exit(3)", "its process ended with exit code 3."),
        (OUT_OF_MEMORY.format(name="__init__"), "Not enough memory on cpu; choose a smaller --batch-size."),
    ],
)
def test_a_device_that_does_not_start_is_left_out(
    code: str, why: str, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(monkeypatch, 1, code)
    said: list[str] = []
    group = open_group(tiny_weights, said)
    try:
        assert said == [f"device cpu is lost, and the others go on without it: {why}"]
        assert group.in_flight == 2
        assert through_batcher(group, np.zeros((20, 224, 224, 3), np.uint8)).shape == (20, 512)
    finally:
        group.close()


@pytest.mark.once
@pytest.mark.parametrize(
    ("code", "error", "sentence"),
    [
        ("sys.exit(3)", ClipcacheError, r"do not start: its process ended with exit code 3; .*--debug"),
        ("import time; time.sleep(600)", ClipcacheError, r"do not start: its process has not started after 1 s"),
        (
            OUT_OF_MEMORY.format(name="__init__"),
            UsageError,
            r"^Not enough memory on cpu; choose a smaller --batch-size",
        ),
    ],
)
def test_where_no_device_starts_the_run_says_why(
    code: str, error: type[ClipcacheError], sentence: str, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(monkeypatch, None, code)
    with pytest.raises(error, match=sentence):
        open_group(tiny_weights, **({"start_seconds": 1.0} if "sleep" in code else {}))


def test_a_process_that_cannot_be_started_leaves_no_other(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = child.start, []

    def start_one(*how: Any, **more: Any) -> Any:
        if started:
            raise BlockingIOError("no more processes")
        started.append(start(*how, **more))
        return started[0]

    monkeypatch.setattr(child, "start", start_one)
    with pytest.raises(BlockingIOError):
        open_group(tiny_weights)
    assert started[0].returncode == -signal.SIGKILL


def test_a_pool_that_cannot_be_made_leaves_no_process(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ImportError("no torchvision")

    closed: list[Any] = []
    monkeypatch.setattr(engine, "InProcessPool", fail)
    monkeypatch.setattr(FrameEncoder, "close", lambda encoder: closed.append(encoder))
    with pytest.raises(ImportError, match="torchvision"):
        engine.PictureEngine(find_weights("tiny", tiny_weights, DigestMemo()), options(tiny_weights), print)
    assert len(closed) == 1


@pytest.mark.once
def test_memory_that_runs_out_on_the_last_device_keeps_its_sentence(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(monkeypatch, None, OUT_OF_MEMORY.format(name="encode"))
    said: list[str] = []
    group = open_group(tiny_weights, said)
    try:
        with pytest.raises(UsageError, match=r"^Not enough memory on cpu; choose a smaller --batch-size"):
            through_batcher(group, np.zeros((64, 224, 224, 3), np.uint8))
        assert len(said) == 1
    finally:
        group.close()


@pytest.mark.once
def test_weights_that_cannot_be_loaded_are_no_fault_of_a_device(tiny_weights: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(tiny_weights.read_bytes()[:1000])
    said: list[str] = []
    with pytest.raises(ModelError, match="bad"):
        open_group(bad, said)
    assert said == []


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_run(number: signal.Signals, many: Path, tiny_weights: Path, tmp_path: Path) -> None:
    """Ctrl-C and, from a cluster, SIGTERM reach every process; SIGKILL the run alone."""
    cache = tmp_path / "cache"
    words = [*extract_words(cache, tiny_weights), "--device", "cpu,cpu", "--num-workers", "1", str(many)]
    run = start_extract(*words)
    wait_until(lambda: list(cache.glob("*/*/*.h5")) or run.poll() is not None, "an entry")
    processes = children(run.pid)
    assert len(processes) == 3
    send: Callable[[int, int], None] = os.kill if number == signal.SIGKILL else os.killpg
    send(run.pid, number)
    out, err = run.communicate()
    assert run.returncode == (-number if number == signal.SIGKILL else 128 + number), (out, err)
    assert number == signal.SIGKILL or [line for line in err.splitlines() if line.startswith("clipcache: ")] == []
    end = time.monotonic() + 2
    while alive := [pid for pid in processes if is_running(pid)]:
        assert time.monotonic() < end, alive
    if number != signal.SIGKILL:
        assert_sound(cache)
