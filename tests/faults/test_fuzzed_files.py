"""Media and entries with bytes changed at random: each is used rightly or named, and costs nothing else."""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from clipcache import cli
from clipcache.cache import FeatureCache
from demo_library import DemoLibrary
from extract_runs import Cli, Outcome, assert_sound
from video_files import make_video

pytestmark = [pytest.mark.fault, pytest.mark.once]

VIDEOS = {
    "a.mp4": {},
    "b.mkv": {"codec": "libx265", "options": {"x265-params": "keyint=20:log-level=none"}},
    "c.webm": {"codec": "libvpx-vp9"},
    "d.ts": {"codec": "mpeg2video", "options": {"g": "12"}},
    "e.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "f.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "g.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "h.flv": {"codec": "flv"},
}
FRAMES = 30
DAMAGED_VIDEOS = 24
DAMAGED_ENTRIES = 40

Ask = Callable[..., Outcome]

QUESTIONS = {
    "score": ["score", "--text", "red", "--format", "csv"],
    "search": ["search", "red", "--format", "csv"],
    "consistency": ["consistency", "--format", "csv"],
}


def changed(data: bytes, rng: random.Random) -> bytes:
    """The content with bytes flipped, overwritten, cut out, doubled, moved, or cut off."""
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, length = rng.randrange(len(result)), rng.choice([1, 4, 16, 100, 1000])
        piece = bytes(result[at : at + length])
        kind = rng.choice(["flip", "noise", "zeros", "cut out", "double", "cut off", "huge number"])
        if kind == "flip":
            result[at] ^= 1 << rng.randrange(8)
        elif kind == "cut off":
            del result[max(1, at) :]
        elif kind == "cut out" and len(result) > length:
            del result[at : at + length]
        elif kind == "double":
            result[at:at] = piece
        elif kind == "huge number":
            result[at : at + 4] = b"\xff\xff\xff\x7f"
        else:
            result[at : at + length] = rng.randbytes(len(piece)) if kind == "noise" else bytes(len(piece))
    return bytes(result)


def test_fuzzed_videos(
    tmp_path: Path,
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rounds: int,
    tried: Counter[str],
) -> None:
    rng = random.Random(rounds)
    sound = {name: make_video(tmp_path / name, frames=FRAMES, **how) for name, how in VIDEOS.items()}  # type: ignore[arg-type]
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(DAMAGED_VIDEOS * rounds):
        name = rng.choice(sorted(sound))
        (folder / f"{number:04d}{name}").write_bytes(changed(sound[name].path.read_bytes(), rng))
    shutil.copy(sound["a.mp4"].path, folder / "sound.mp4")
    clipcache = Cli(tmp_path / "cache", tiny_weights, monkeypatch, capsys)

    outcome = clipcache(folder, "--num-workers", "2", "--stall-seconds", "20")

    assert outcome.code in (0, 1)
    entries = clipcache.entries
    assert len(entries["sound.mp4"]) == FRAMES
    assert entries["sound.mp4"].complete
    named = {path.name for path in folder.iterdir() if path.name in outcome.err}
    assert {path.name for path in folder.iterdir()} <= named | entries.keys() | copies(folder, entries.keys())
    assert_sound(clipcache.cache_dir)
    tried["damaged videos"] += DAMAGED_VIDEOS * rounds


def copies(folder: Path, names: object) -> set[str]:
    """Files with the same content as one that has an entry: changing twice may change nothing."""
    contents = {path.read_bytes() for path in folder.iterdir() if path.name in names}  # type: ignore[operator]
    return {path.name for path in folder.iterdir() if path.read_bytes() in contents}


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command in this process."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["clipcache", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        said = capsys.readouterr()
        return Outcome(int(leaving.value.code or 0), said.out, said.err)

    return run


def ask_all(ask: Ask, cache: Path) -> dict[str, Outcome]:
    """Outcomes of all questions, none of which may end as no program should."""
    outcomes = {name: ask(*words, "--cache", cache) for name, words in QUESTIONS.items()}
    for outcome in outcomes.values():
        assert "Traceback" not in outcome.err
        assert "please report" not in outcome.err
    return outcomes


def test_fuzzed_entries(demo_library: DemoLibrary, tmp_path: Path, ask: Ask, rounds: int, tried: Counter[str]) -> None:
    """Either the answer is that of the sound cache, or it is that without the entry, which is named, and exit 1."""
    cache = tmp_path / "features"
    shutil.copytree(demo_library.cache_dir, cache)
    victim = FeatureCache(cache).entries()[0].path
    original = victim.read_bytes()
    right = ask_all(ask, cache)
    victim.unlink()
    without = ask_all(ask, cache)
    rng = random.Random(rounds)
    for _ in range(DAMAGED_ENTRIES * rounds):
        victim.write_bytes(changed(original, rng))
        for name, outcome in ask_all(ask, cache).items():
            if outcome.code == 0:
                assert outcome.out == right[name].out, name
            else:
                assert outcome.code == 1
                assert victim.name in outcome.err, (name, outcome)
                assert outcome.out == without[name].out, name
        tried["damaged entries, three commands each"] += 1


def test_fuzzed_packed_libraries(
    demo_library: DemoLibrary, tmp_path: Path, ask: Ask, rounds: int, tried: Counter[str]
) -> None:
    """What is packed is checked as a whole, by `cache verify`: what it finds sound gives the right answers."""
    packed = tmp_path / "packed.h5"
    assert ask("cache", "pack", packed, "--cache", demo_library.cache_dir).code == 0
    original = packed.read_bytes()
    right = ask_all(ask, packed)
    rng = random.Random(rounds)
    for _ in range(DAMAGED_ENTRIES * rounds):
        packed.write_bytes(changed(original, rng))
        is_sound = ask("cache", "verify", "--cache", packed).code == 0
        for name, outcome in ask_all(ask, packed).items():
            assert outcome.code in (0, 1)
            assert not is_sound or outcome.out == right[name].out, name
        tried["damaged packed libraries, four commands each"] += 1
