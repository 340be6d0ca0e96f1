"""Shards divide a library: every item is in exactly one, and no run hashes what is in another."""

from __future__ import annotations

import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from clipcache.cache.common import hashing
from clipcache.cache.common.errors import UsageError
from clipcache.extract import ExtractOptions, Shard, extract
from clipcache.extract.cluster.shards import as_ranges, number_of
from clipcache.extract.inputs import find_items
from extract_runs import Cli, features_of
from PIL import Image
from video_files import make_video

ARRAY = {
    "SLURM_ARRAY_TASK_ID": "5",
    "SLURM_ARRAY_TASK_MIN": "0",
    "SLURM_ARRAY_TASK_MAX": "7",
    "SLURM_ARRAY_TASK_COUNT": "8",
    "SLURM_ARRAY_TASK_STEP": "1",
}
BATCH_SCRIPT = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
STEP = {**BATCH_SCRIPT, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
INTERACTIVE = {**BATCH_SCRIPT, "SLURM_STEP_ID": "4294967290", "SLURM_STEPID": "4294967290"}
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "6", "TORCHELASTIC_RUN_ID": "none"}


def renumbered(first: int, last: int, count: int, task: int, step: str | None = "1") -> dict[str, str]:
    numbers = {"MIN": first, "MAX": last, "COUNT": count, "ID": task}
    said = {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}
    return said if step is None else {**said, "SLURM_ARRAY_TASK_STEP": step}


@pytest.mark.parametrize(("text", "shard"), [("0/1", (0, 1)), ("3/64", (3, 64)), ("063/064", (63, 64))])
def test_a_shard_is_read(text: str, shard: tuple[int, int]) -> None:
    assert Shard.parse(text, {}) == Shard(*shard)
    assert Shard.parse(str(Shard(*shard)), {}) == Shard(*shard)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("64/64", "There is no shard 64/64: shards are counted from 0; give one from 0/64 to 63/64."),
        ("1/1", "give one from 0/1 to 0/1"),
        ("0/0", "The shard 0/0 is one of none"),
        *(
            (text, "is not a shard; give i/n, such as 0/64")
            for text in ("", "3", "-1/4", "1/-4", "a/b", "1/2/3", "1 /2")
        ),
        ("$SLURM_ARRAY_TASK_ID/64", "is not a shard"),
        ("/64", "is not a shard"),
        ("\u0663/64", "is not a shard"),
        ("1/" + "9" * 5000, "is not a shard"),
    ],
)
def test_what_is_not_a_shard_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Shard.parse(text, {})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        (ARRAY, (5, 8)),
        (renumbered(1, 8, 8, 1), (0, 8)),
        (renumbered(1, 8, 8, 8, None), (7, 8)),
        (renumbered(3, 15, 4, 7, "4"), (1, 4)),
        (renumbered(17, 17, 1, 17), (0, 1)),
        (STEP, (3, 4)),
        ({**STEP, "SLURM_STEP_ID": "", "SLURM_STEPID": "2"}, (3, 4)),
        ({**STEP, "SLURM_NTASKS": "9"}, (3, 4)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({**ARRAY, **STEP}, (5 * 4 + 3, 32)),
        ({**ARRAY, **BATCH_SCRIPT}, (5, 8)),
        ({**ARRAY, **INTERACTIVE}, (5, 8)),
        (TORCHRUN, (2, 6)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({**TORCHRUN, **BATCH_SCRIPT}, (2, 6)),
        ({**TORCHRUN, **STEP}, (2, 6)),
        ({**TORCHRUN, **ARRAY}, (5 * 6 + 2, 48)),
        ({**ARRAY, "RANK": "2", "WORLD_SIZE": "6"}, (5, 8)),
        ({**STEP, "RANK": "2", "WORLD_SIZE": "6"}, (3, 4)),
    ],
)
def test_auto_is_what_the_environment_says(environment: dict[str, str], shard: tuple[int, int]) -> None:
    assert Shard.parse("auto", environment) == Shard(*shard)


NOTHING = "finds neither an array of SLURM, nor a step started by srun, nor RANK and WORLD_SIZE; name the shard"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, NOTHING),
        (BATCH_SCRIPT, NOTHING),
        (INTERACTIVE, NOTHING),
        ({"RANK": "2"}, NOTHING),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}, NOTHING),
        (renumbered(3, 17, 2, 3), "This array has gaps (2 tasks from 3 to 17)"),
        (renumbered(3, 17, 2, 3), "use --shard $SLURM_ARRAY_TASK_ID/N"),
        (renumbered(0, 63, 63, 5), "has gaps (63 tasks"),
        (renumbered(0, 8, 3, 5, "4"), "has gaps"),
        (renumbered(0, 7, 8, 9), "has gaps"),
        (renumbered(0, 7, 8, 1, "0"), "has gaps"),
        ({"SLURM_ARRAY_TASK_ID": "5"}, "SLURM_ARRAY_TASK_MIN is '' where a number belongs"),
        ({**ARRAY, "SLURM_ARRAY_TASK_COUNT": "eight"}, "SLURM_ARRAY_TASK_COUNT is 'eight'"),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "-1"}, "SLURM_ARRAY_TASK_ID is '-1'"),
        ({**STEP, "SLURM_PROCID": "4"}, "SLURM_PROCID is 4 where SLURM_STEP_NUM_TASKS is 4"),
        ({**STEP, "SLURM_PROCID": "x"}, "SLURM_PROCID is 'x'"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK is 0 where WORLD_SIZE is 0"),
    ],
)
def test_where_the_environment_does_not_say_it_a_sentence_does(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Shard.parse("auto", environment)
    assert said in str(refused.value)


def test_tasks_of_an_array_and_their_processes_are_all_shards_once() -> None:
    shards = [
        Shard.parse("auto", {**STEP, **renumbered(2, 4, 3, task), "SLURM_PROCID": str(process)})
        for task in (2, 3, 4)
        for process in range(4)
    ]
    assert shards == [Shard(index, 12) for index in range(12)]


def random_places(count: int) -> list[str]:
    draw = random.Random(5)
    letters = "abc 0189._-/\u00e4\u4e2d\U0001f3a5" + os.fsdecode(b"\xff")
    return sorted({"".join(draw.choices(letters, k=draw.randint(1, 60))) for _ in range(count)})


def test_every_item_is_in_exactly_one_shard() -> None:
    places = random_places(500)
    for count in range(1, 101):
        shards = [Shard(index, count) for index in range(count)]
        for place in places[: 500 if count in (1, 2, 64) else 60]:
            assert [shard.contains(place) for shard in shards].count(True) == 1


def test_shards_are_of_about_the_same_size_and_the_same_everywhere() -> None:
    sizes = Counter(number_of(f"clips/{number}.mp4", 16) for number in range(16_000))
    assert set(sizes) == set(range(16))
    assert min(sizes.values()) > 880
    assert max(sizes.values()) < 1120
    assert [number_of(place, 64) for place in ("a.mp4", "b/c.mp4", "\u00e4.mkv")] == [32, 45, 2]
    assert number_of("a\u0308.mkv", 64) == 2, "as some file systems spell it"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([7], "7"), ([0, 1, 2, 3, 7, 12, 13, 14, 15], "0-3,7,12-15"), ([5, 3, 4, 3], "3-5"), ([1, 3], "1,3")],
)
def test_numbers_are_written_as_slurm_takes_them(numbers: Iterable[int], text: str) -> None:
    assert as_ranges(numbers) == text


def places(*inputs: Path | str, **how: Any) -> dict[str, str]:
    return {item.place: str(item.path) for item in find_items(inputs, **how)}


@pytest.fixture
def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("here/lib", "there/lib"):
        for below in ("a.mp4", "b/c.mkv", "shots/1.png"):
            path = tmp_path / name / below
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "here" / "lib", tmp_path / "there" / "lib"


def test_a_place_does_not_depend_on_where_the_library_is(
    two_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two_folders
    assert set(places(here)) == set(places(there)) == set(places(f"{there}/")) == {"a.mp4", "b/c.mkv", "shots"}
    monkeypatch.chdir(here)
    assert set(places(".")) == set(places(here))
    assert set(places("b", "shots")) == {"b/c.mkv", "shots"}, "of several folders their names tell them apart"
    assert set(places(".", "b")) == {"lib/a.mp4", "b/c.mkv", "lib/shots"}


def test_the_place_of_a_file_is_as_it_is_named(two_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two_folders
    for library in two_folders:
        (library / "list.txt").write_text("b/c.mkv\n./a.mp4\n")
    assert set(places(list_file=here / "list.txt")) == set(places(list_file=there / "list.txt")) == {"b/c.mkv", "a.mp4"}
    monkeypatch.chdir(here)
    assert set(places("a.mp4", here / "b/c.mkv")) == {"a.mp4", (here / "b/c.mkv").as_posix()}
    assert set(places("b/*.mkv")) == {"b/c.mkv"}


def test_another_video_moves_none(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.mp4").touch()
    before = {str(item.path): index for index in range(7) for item in find_items([tmp_path], shard=Shard(index, 7))}
    (tmp_path / "0-new.mp4").touch()
    after = {str(item.path): index for index in range(7) for item in find_items([tmp_path], shard=Shard(index, 7))}
    assert len(before) == 40
    assert after == {**before, str(tmp_path / "0-new.mp4"): after[str(tmp_path / "0-new.mp4")]}


LIBRARY_SHARDS = 4


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Videos, an image folder, and a copy of a video that falls into another shard."""
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    for number in range(6):
        make_video(folder / ("below" if number % 2 else "") / f"{number}.mp4", frames=4 + number, size=(64, 48))
    copies = (f"copy{number}.mp4" for number in range(100))
    copy = next(name for name in copies if number_of(name, LIBRARY_SHARDS) != number_of("0.mp4", LIBRARY_SHARDS))
    (folder / copy).write_bytes((folder / "0.mp4").read_bytes())
    (folder / "shots").mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "shots" / "1.png")
    return folder


def test_shards_rejoin_and_none_hashes_what_is_in_another(
    library: Path, clipcache: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clipcache(library, "--cache", tmp_path / "plain").code == 0
    hashed: list[str] = []
    computed = hashing.sha256_file
    monkeypatch.setattr(hashing, "sha256_file", lambda path, tell: hashed.append(str(path)) or computed(path, tell))
    monkeypatch.setenv("CLIPCACHE_MEMO", str(tmp_path / "memo.sqlite3"))
    counts = Counter[str]()
    for index in range(LIBRARY_SHARDS):
        hashed.clear()
        outcome = clipcache(library, "--shard", f"{index}/{LIBRARY_SHARDS}", "--json")
        assert outcome.code == 0
        own = find_items([library], shard=Shard(index, LIBRARY_SHARDS))
        files = {str(path) for item in own for path in item.images or (item.path,)}
        assert {name for name in hashed if name.startswith(str(library))} == files
        assert f"clipcache: shard {index}/{LIBRARY_SHARDS}: {len(own)} of 8 items" in outcome.err
        said = json.loads(outcome.out)
        assert said["shard"] == f"{index}/{LIBRARY_SHARDS}"
        counts.update({name: said[name] for name in ("extracted", "cached", "failed")})
    assert counts == {"extracted": 7, "cached": 1, "failed": 0}, "the copy is extracted once"
    plain, sharded = features_of(tmp_path / "plain"), features_of(clipcache.cache_dir)
    assert len(plain) == len(sharded) == 7
    assert sorted(map(digest, plain.values())) == sorted(map(digest, sharded.values()))


def digest(features: Any) -> str:
    return hashing.hashlib.sha256(features.tobytes()).hexdigest()


def test_a_shard_without_items_is_no_error(tmp_path: Path, clipcache: Cli) -> None:
    make_video(tmp_path / "one.mp4", frames=3, size=(64, 48))
    other = f"{(number_of('one.mp4', 64) + 1) % 64}/64"
    folder = tmp_path / "library"
    folder.mkdir()
    (tmp_path / "one.mp4").rename(folder / "one.mp4")
    outcome = clipcache(folder, "--shard", other)
    assert outcome.code == 0
    assert f"shard {other}: 0 of 1 items" in outcome.err
    assert f"Items of shard {other}: 0 extracted, 0 cached, 0 partial, 0 failed" in outcome.out
    assert not clipcache.cache_dir.exists()
    dry = clipcache(folder, "--shard", other, "--dry-run", "--json")
    assert (dry.code, json.loads(dry.out)) == (0, [])
    own = clipcache(folder, "--shard", f"{number_of('one.mp4', 64)}/64", "--dry-run", "--json")
    assert [row["path"] for row in json.loads(own.out)] == [str(folder / "one.mp4")]


def test_auto_on_the_command_line(tmp_path: Path, clipcache: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()
    assert NOTHING in clipcache(tmp_path, "--shard", "auto", "--dry-run").err
    for name, value in ARRAY.items():
        monkeypatch.setenv(name, value)
    assert "shard 5/8: " in clipcache(tmp_path, "--shard", "auto", "--dry-run").err
    refused = clipcache(tmp_path, "--shard", "8/8")
    assert refused.code == 2
    assert refused.complaints == [
        "clipcache: There is no shard 8/8: shards are counted from 0; give one from 0/8 to 7/8."
    ]


def test_in_python(tmp_path: Path, tiny_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(3):
        make_video(folder / f"{number}.mp4", frames=3 + number, size=(64, 48))
    caplog.set_level(logging.INFO)
    total = 0
    for index in range(2):
        options = ExtractOptions(model="tiny", weights=tiny_weights, device="cpu", num_workers=0, shard=Shard(index, 2))
        total += extract([folder], tmp_path / "cache", options).extracted
    assert total == 3
    assert "shard 1/2: " in caplog.text
    with pytest.raises(UsageError, match="shard cannot be '0/2'; give one, such as"):
        ExtractOptions(shard="0/2")  # type: ignore[arg-type]
