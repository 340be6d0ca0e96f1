"""One bad entry costs one entry: whatever is wrong with it, every command answers for the others and names it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from clipcache.cache import DigestMemo, Entry
from clipcache.cache.export.formats import FORMATS
from clipcache.cli import cli
from clipcache.extract.models.weights import find_weights
from score_caches import make_video, put

pytestmark = [pytest.mark.fault, pytest.mark.once]

VIDEOS = [f"v{number}.mp4" for number in range(6)]
BAD, GOOD = VIDEOS[2], VIDEOS[0]
FRAMES, DIM = 12, 512
Damage = Callable[[Path], None]


# Ways to damage an entry. It is of version 1, whose attributes have no checksum.


def attribute(name: str, value: Any, dtype: Any = None) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            held = file.attrs.get_id(name).dtype
            del file.attrs[name]
            if isinstance(value, str):
                file.attrs.create(
                    name, value.encode(), dtype=dtype or h5py.string_dtype("utf-8", max(1, len(value.encode())))
                )
            else:
                file.attrs.create(name, value, dtype=dtype or (held if held.kind in "if" else None))

    return damage


def dataset(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = change(file[name][:])
            del file[name]
            file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)

    return damage


def without(name: str) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[name]

    return damage


def flipped(name: str) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r") as file:
            at = file[name].id.get_chunk_info(0).byte_offset
        content = bytearray(path.read_bytes())
        content[at + 3] ^= 0x10
        path.write_bytes(content)

    return damage


def replaced(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def from_second(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[1:] = value
        return values

    return change


ROWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "another type": lambda values: values.astype("f4" if values.dtype == "f8" else "f8"),
    "another shape": lambda values: np.stack([values, values], axis=1),
    "fewer": lambda values: values[:-1],
    "none": lambda values: values[:1] * 0,
    "as bytes": lambda values: values.view(np.uint8),
}
WRONG_NUMBERS = {"as text": "junk", "as a list": [1, 2], "nan": np.nan, "inf": np.inf, "negative": -7.0, "huge": 1e300}
WRONG_INTEGERS = {"as text": "junk", "as a list": [1, 2], "a fraction": 0.5, "negative": -7, "huge": 2**63 - 1}
WRONG_TEXT = {"a number": 7, "a list": [1, 2], "not UTF-8": np.bytes_(b"\xff\xfe"), "too long": "x" * 5000}
NUMBERS = ("fps", "duration_s", "logit_scale")
INTEGERS = (
    *("schema_version", "video_bytes", "width", "height", "rotation", "frames_expected", "frames_decoded"),
    *("embed_dim", "input_size"),
)
MEANT = {  # text of which the value counts
    "source_kind": "junk",
    "video_sha256": "junk",
    "model": "junk",
    "weights_sha256": "junk",
    "sampling": "junk",
}
SHOWN = ("clipcache_version", "created", "video_name", "codec", "precision", "preprocess", "decoder", "torch_version")
DAMAGE: dict[str, Damage] = {
    **{
        f"{name} {what}": attribute(name, value, float if what == "a fraction" else None)
        for names, values in ((NUMBERS, WRONG_NUMBERS), (INTEGERS, WRONG_INTEGERS), ((*MEANT, *SHOWN), WRONG_TEXT))
        for name in names
        for what, value in values.items()
    },
    **{f"{name} junk": attribute(name, value) for name, value in MEANT.items()},
    **{f"{name} empty": attribute(name, "") for name in MEANT},
    **{f"{name} junk": attribute(name, "junk \x1b[31m\n") for name in SHOWN if name != "video_name"},
    "video_sha256 of another video": attribute("video_sha256", "0" * 64),
    "weights_sha256 of another model": attribute("weights_sha256", "0" * 64),
    "model of another name": attribute("model", "ViT-B/32"),
    "sampling of another kind": attribute("sampling", "every=3"),
    "embed_dim of another model": attribute("embed_dim", 1024),
    "logit_scale zero": attribute("logit_scale", 0.0),
    "rotation of 213": attribute("rotation", 213),
    "complete as text": attribute("complete", "yes"),
    "complete as a number": attribute("complete", 5),
    **{
        f"{name} {what}": dataset(name, change)
        for name in ("features", "timestamps_ms", "frame_index", "quality/sharpness")
        for what, change in ROWS.items()
        if not (name.startswith("quality") and what == "none")
    },
    **{f"{name} missing": without(name) for name in ("features", "timestamps_ms", "frame_index")},
    **{f"{name} flipped": flipped(name) for name in ("features", "timestamps_ms", "frame_index", "quality/sharpness")},
    "features nan": dataset("features", from_second(np.nan)),
    "features inf": dataset("features", from_second(np.inf)),
    "features zero": dataset("features", from_second(0)),
    "timestamps_ms nan": dataset("timestamps_ms", from_second(np.nan)),
    "timestamps_ms decreasing": dataset("timestamps_ms", lambda values: values[::-1]),
    "frame_index decreasing": dataset("frame_index", lambda values: values[::-1]),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "text": replaced(lambda path: path.write_text("I am an entry, honestly.")),
    "a folder": replaced(Path.mkdir),
    "a pipe": replaced(os.mkfifo),
    "a link to nowhere": replaced(lambda path: path.symlink_to("nowhere")),
    "no permission": lambda path: path.chmod(0),
}
MAY_PASS = {
    # Only shown: no command goes by it.
    *(f"{name} junk" for name in SHOWN),
    "complete as a number",
    # Read only by commands that use measures.
    "quality/sharpness flipped",
    # What the tables of pixels and bytes say is not compared with anything.
    *(f"{name} {what}" for name in ("video_bytes", "frames_expected", "frames_decoded") for what in ("huge",)),
}
ODD_FEATURES = {"features nan", "features inf", "features zero"}


# Commands, and how many videos each has answered for.


def named_videos(result: Result) -> int:
    return sum(name in result.stdout for name in VIDEOS)


def counted(pattern: str) -> Callable[[Result], int]:
    def count(result: Result) -> int:
        found = re.search(pattern, result.stdout)
        return int(found[1]) if found else 0

    return count


def command(
    *words: str, count: Callable[[Result], int] = named_videos
) -> tuple[tuple[str, ...], Callable[[Result], int]]:
    return words, count


TEXT = ("--text", "a red circle")
CORE = {
    "score": command("score", *TEXT),
    "ls": command("cache", "ls"),
}
OF_DATA = {
    **CORE,
    "search": command("search", "a red circle", "--per-video", "1", "--top", "50"),
    "npz": command("export", "--format", "npz", "--output", "OUT/npz", count=counted(r"(\d+) videos exported")),
    "pack": command("cache", "pack", "OUT/p.h5", count=counted(r"(\d+) entries,")),
}
ALL = {
    **OF_DATA,
    "probability": command("score", *TEXT, "--text", "a blue square", "--metric", "probability", "--format", "json"),
    "baseline": command("score", *TEXT, "--baseline-file", "prompts.txt", "--format", "jsonl"),
    "embeddings": command("score", "--text-embeddings", "rows.npy", "--format", "csv"),
    "video": command("score", "--video", f"videos/{GOOD}"),
    "fps": command("score", *TEXT, "--fps", "5"),
    "every": command("score", *TEXT, "--every", "2", "--start", "0.1", "--end", "0.9"),
    "moments": command("search", "a red circle", "--moments", "--high", "-1", "--low", "-1", "--top", "50"),
    "moments in two passes": command("search", "a red circle", "--moments", count=lambda _: 5),
    "consistency": command("consistency", "--format", "json"),
    "jumps": command("consistency", "--jumps", "1"),
    "duplicates": command("consistency", "--duplicates", "-1"),
    "aesthetic": command("aesthetic", "--details", "--format", "json"),
    "frames": command("aesthetic", "--per-frame", "--format", "csv"),
    "methods": command("aesthetic", "--compare", count=lambda _: 5),
    **{
        name: command(
            "export", "--format", name, "--output", f"OUT/{name}.file", count=counted(r"(\d+) videos exported")
        )
        for name in FORMATS
    },
    "pooled": command(
        *("export", "--format", "npz", "--output", "OUT/pooled", "--pool", "mean:4", "--fps", "5", *TEXT),
        count=counted(r"(\d+) videos exported"),
    ),
    "merge": command("cache", "merge", "features", "--into", "OUT/merged", count=counted(r"(\d+) entries written")),
    "prune": command("cache", "prune", "--videos", "videos", count=lambda _: 5),
    "ls --json": command("cache", "ls", "--json"),
}
NO_DATA = {"ls", "ls --json", "prune"}
"""Commands that read attributes and times alone; `cache verify` reads all."""
COPIES = {*FORMATS, "pack", "merge"}
"""Commands that copy features as they are: a checksum tells whether they are what was written."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, _isolated_session: None) -> Iterator[Path]:
    """Six entries that the demo model may have made, and the vectors of all prompts used here."""
    folder, rng = tmp_path_factory.mktemp("bad-entries"), np.random.default_rng(0)
    weights = find_weights("demo", None, DigestMemo()).sha256
    for name in VIDEOS:
        path = put(
            folder / "features",
            make_video(folder / "videos", name),
            rng.normal(size=(FRAMES, DIM)),
            model="demo",
            weights_sha256=weights,
        )
        with h5py.File(path, "r+") as file:
            sharpness = rng.uniform(size=FRAMES).astype("f4")
            file.create_dataset("quality/sharpness", data=sharpness, chunks=(FRAMES,), fletcher32=True)
    np.save(folder / "rows.npy", rng.normal(size=(2, DIM)).astype("f4"))
    (folder / "prompts.txt").write_text("\n".join(f"a picture of {thing}" for thing in "abcdefghijklmnopqrstuvwxyz"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words, count in ALL.values():
            result = run(words)
            assert result.exit_code == 0, result.output
            assert count(result) in (5, 6), result.output
        yield folder


def run(words: tuple[str, ...]) -> Result:
    shutil.rmtree("OUT", ignore_errors=True)
    return CliRunner().invoke(cli, list(words))


@pytest.fixture
def bad(folder: Path) -> Iterator[Path]:
    """The path of the entry to damage, which is whole again afterwards."""
    (path,) = (folder / "features").glob(f"*/*/{Path(BAD).stem}-*.h5")
    content = path.read_bytes()
    yield path
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    path.write_bytes(content)


NEEDS_ALL = {
    *("sampling junk", "video_sha256 junk", "logit_scale nan", "embed_dim of another model", "model of another name"),
    *("weights_sha256 of another model", "features another type", "features flipped", "features nan", "features zero"),
    *("quality/sharpness another shape", "quality/sharpness flipped", "truncated", "a folder"),
}
"""Met by every command. Other wrong attributes are found at the same two places; each of `CORE` goes by one."""


def commands_for(damage: str) -> dict[str, tuple[tuple[str, ...], Callable[[Result], int]]]:
    if damage in NEEDS_ALL:
        return ALL
    return CORE if damage.split()[0] in (*NUMBERS, *INTEGERS, *MEANT, *SHOWN) else OF_DATA


def may_pass(damage: str, what: str) -> bool:
    """Whether a command need not notice."""
    if damage.endswith("flipped") and what in NO_DATA:
        return True
    return damage in MAY_PASS or (damage in ODD_FEATURES and what in NO_DATA | COPIES)


@pytest.mark.parametrize("name", DAMAGE)
def test_the_others_are_answered_for_and_it_is_named(name: str, bad: Path) -> None:
    if name == "no permission" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    DAMAGE[name](bad)
    wrong = {}
    for what, (words, count) in commands_for(name).items():
        if name in ODD_FEATURES and what == "merge":
            continue  # writing an entry refuses them
        result = run(words)
        has_crashed = result.exception is not None and not isinstance(result.exception, SystemExit)
        is_unnoticed = may_pass(name, what) and result.exit_code == 0 and count(result) in (5, 6)
        is_named = BAD in result.stderr or bad.name in result.stderr
        is_right = is_unnoticed or (result.exit_code == 1 and is_named and count(result) == 5)
        if has_crashed or not is_right or has_nan(result.stdout):
            wrong[what] = (result.exception, result.exit_code, count(result), result.stderr[:300])
    assert not wrong


def has_nan(text: str) -> bool:
    return re.search(r"\b(nan|inf|NaN|Infinity)\b", text) is not None


def test_an_entry_that_is_whole_is_read_from_anywhere(folder: Path, tmp_path: Path) -> None:
    (path,) = (folder / "features").glob(f"*/*/{Path(GOOD).stem}-*.h5")
    shutil.copyfile(path, tmp_path / "any name.h5")
    assert len(Entry(tmp_path / "any name.h5")) == FRAMES
