"""Files that never answer, never end, or are larger than they look: refused in a sentence, soon, in little memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_entries import put_entry
from clipcache.cache.common import reading
from clipcache.cache.common.errors import UsageError
from clipcache.cache.common.hashing import sha256_file
from clipcache.cache.vector_store import ReferenceStore
from clipcache.extract.inputs import find_items
from clipcache.score.align.bank import load_bank
from clipcache.score.quality.heads import load_head
from clipcache.score.read_files import read_yaml

MAX_MB = 500
CASES = {
    "prompts": ("score", "--text-file"),
    "prompts in yaml": ("score", "--text", "x", "--text-file", "DIR/x.yaml"),
    "embeddings": ("score", "--text-embeddings"),
    "image": ("score", "--image"),
    "pairs": ("score", "--pairs"),
    "baseline": ("score", "--text", "x", "--baseline-file"),
    "target": ("score", "--text", "x"),
    "attributes": ("aesthetic", "--attributes"),
    "head": ("aesthetic", "--head"),
    "benchmark": ("benchmark",),
    "info": ("cache", "info"),
    "search image": ("search", "--image"),
    "vocabulary": ("align", "--vocabulary"),
    "import": ("import", "--model", "ViT-B/32", "--weights-sha256", "cd" * 32),
}
# Each is run in the child; the name of the file to read comes last. The memory is that of all of them together.
PROGRAM = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from click.testing import CliRunner
from clipcache.cli import cli
told = []
for words in json.load(sys.stdin):
    began = time.monotonic()
    result = CliRunner().invoke(cli, words)
    said = result.stderr + str(result.exception)
    told.append((words, type(result.exception).__name__, result.exit_code, said, time.monotonic() - began))
status = open("/proc/self/status").read()  # ru_maxrss counts the process that forked, too
print(json.dumps([int(status.split("VmHWM:")[1].split()[0]), told]))
"""


def ask(runs: list[list[str]], folder: Path) -> list[tuple[str, str]]:
    """The name of the exception and the sentences of each run, all in one process that may take MAX_MB."""
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(runs), capture_output=True, text=True, cwd=folder, timeout=200
    )
    assert child.returncode == 0, child.stderr[-2000:]
    peak_kb, told = json.loads(child.stdout)
    assert peak_kb < MAX_MB * 1024, f"{peak_kb / 1024:.0f} MB"
    assert max(seconds for *_, seconds in told) < 20
    return [(kind, said) for _, kind, _, said, _ in told]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for number in range(2):
        put_entry(tmp_path / "features", seed=number, video_sha256=f"{number}" * 64)
    return tmp_path


def sparse_npy(path: Path) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 26, 8)})
    path.write_bytes(header.getvalue())
    os.truncate(path, len(header.getvalue()) + (1 << 31))
    return path


def bomb_npz(path: Path) -> Path:
    """600 MB of zeros in 600 KB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (150 << 17, 8)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("features.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(600):
            member.write(bytes(1 << 20))
    return path


def sparse_entry(cache: Path) -> Path:
    """An entry of 2^28 frames, of which the disk holds one."""
    path = put_entry(cache / "features", video_sha256="ef" * 32)
    rows = 1 << 28
    with h5py.File(path, "r+") as file:
        for name, shape in (("features", (rows, 8)), ("timestamps_ms", (rows,)), ("frame_index", (rows,))):
            dtype = file[name].dtype
            del file[name]
            file.create_dataset(name, shape, dtype)[:1] = 0
    return path


def named(folder: Path, kind: str, case: str) -> str:
    if kind == "/dev/zero":
        return kind
    os.mkfifo(path := folder / (case.replace(" ", "-") + (".npz" if case == "import" else "")))
    return str(path)


NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@NEEDS_PROC
@pytest.mark.parametrize("kind", ["/dev/zero", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(cache: Path, kind: str) -> None:
    runs = [[*words, named(cache, kind, case)] for case, words in CASES.items() if "DIR/x.yaml" not in words]
    for run, (exception, said) in zip(runs, ask(runs, cache), strict=True):
        assert exception in ("UsageError", "CacheError", "EntryError", "ModelError", "NotCachedError"), (run, said)
        assert run[-1] in said, (run, said)


@NEEDS_PROC
def test_what_is_larger_than_it_looks_is_refused_at_once(cache: Path) -> None:
    (cache / "yaml.yaml").write_text(yaml_bomb())
    entry, npy, npz = sparse_entry(cache), sparse_npy(cache / "rows.npy"), bomb_npz(cache / "bomb.npz")
    huge = cache / "huge.txt"
    huge.touch()
    os.truncate(huge, 1 << 31)
    runs = {
        ("score", "--text-embeddings", str(npy)): "rows.npy",
        ("score", "--text-embeddings", str(npz)): "bomb.npz",
        ("import", "--model", "x", "--weights-sha256", "cd" * 32, "--fps", "1", "--cache", "new", str(npz)): "bomb.npz",
        ("score", "--text-file", str(huge)): "huge.txt",
        ("score", "--pairs", str(huge)): "huge.txt",
        ("aesthetic", "--attributes", str(cache / "yaml.yaml")): "yaml.yaml",
        ("score", "--text-file", str(cache / "yaml.yaml")): "yaml.yaml",
        ("benchmark", str(cache / "yaml.yaml")): "yaml.yaml",
        ("aesthetic", "--head", str(huge)): "huge.txt",
        ("cache", "info", str(entry)): entry.name,
        ("consistency",): entry.name,
        ("cache", "ls"): entry.name,
        ("cache", "verify"): "more than it holds",
        ("cache", "pack", str(cache / "p.h5")): entry.name,
        ("export", "--format", "npz", "--output", str(cache / "out")): entry.name,
    }
    for (words, name), (exception, said) in zip(runs.items(), ask([*map(list, runs)], cache), strict=True):
        if words[:2] == ("cache", "verify"):
            continue  # its finding is on stdout
        assert exception in ("UsageError", "EntryError", "ModelError", "SystemExit"), (words, said)
        assert name in said, (words, said)


def yaml_bomb() -> str:
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(["a0: &a0 [x, x, x, x]", *lists, "names: *a11", "templates: *a11", "pairs: *a11"])


def test_aliases_of_texts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &name dog\nb: [*name, cat]\n")
    assert read_yaml(path) == {"a": "dog", "b": ["dog", "cat"]}
    path.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="nested"):
        read_yaml(path)


def test_a_list_of_inputs_is_read_within_a_limit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(UsageError, match="pipe or a device"):
            find_items([], name)


def test_prompts_and_lists_can_come_from_the_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipcache.score.references import read_prompts

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a dog\r\n# no\na cat\n")))
    assert read_prompts("-") == ["a dog", "a cat"]
    (tmp_path / "a.mp4").touch()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{tmp_path}/a.mp4\n".encode())))
    assert [item.path for item in find_items([], "-")] == [tmp_path / "a.mp4"]
    monkeypatch.setattr(reading, "MAX_TEXT_BYTES", 3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"long")))
    with pytest.raises(OSError, match="larger"):
        reading.read_bounded("-", 3, dash_is_stdin=True)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="closed"):
        read_prompts("-")


def test_a_pipe_in_the_place_of_a_file_of_our_own_is_not_waited_for(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "demo-00000000")
    assert store.put("text", "ab" * 32, np.ones(4, np.float32))
    (path,) = tmp_path.rglob("*.npy")
    path.unlink()
    os.mkfifo(path)
    assert store.get("text", "ab" * 32) is None
    assert [problem is None for _, problem in store.problems()] == [False]
    for refused in (lambda: sha256_file(path), lambda: load_bank(path, "x", 3)):
        with pytest.raises(UsageError, match="pipe or a device"):
            refused()


def test_a_head_that_unpacks_to_more_than_a_head_is_refused(tmp_path: Path) -> None:
    import torch
    from clipcache.cache.common.errors import ModelError

    path = tmp_path / "head.pth"
    torch.save({"weight": torch.zeros(1).expand(1 << 14, 1 << 14), "bias": torch.zeros(1)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelError, match="damaged or holds more"):
        load_head(path, 1 << 14)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("head/data.pkl", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(ModelError, match="damaged or holds more"):
        load_head(path, 4)
    torch.save({("weight",): torch.zeros(1, 4)}, path)
    with pytest.raises(ModelError, match="damaged or holds more"):
        load_head(path, 4)


def test_holes_do_not_count_and_a_file_without_them_counts_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_SMALL_BYTES", 1 << 16)
    whole, holed = tmp_path / "whole", tmp_path / "holed"
    whole.write_bytes(os.urandom(1 << 20))
    with holed.open("wb") as file:
        for place in (0, 10 << 20, 20 << 20):
            file.seek(place)
            file.write(os.urandom(1 << 18))
    assert reading.held_bytes(whole) == 1 << 20
    if holed.stat().st_blocks * 512 >= holed.stat().st_size:
        pytest.skip("this file system has no holes")
    assert 3 << 18 <= reading.held_bytes(holed) <= 1 << 20


@pytest.mark.parametrize("blocks", [0, 8])
def test_a_disk_that_compresses_or_counts_no_blocks_is_asked_for_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    """As ZFS reports it: a tenth of the blocks, or none yet; and no holes."""
    monkeypatch.setattr(reading, "_SMALL_BYTES", 1 << 16)
    path = tmp_path / "compressed"
    path.write_bytes(os.urandom(1 << 20))
    status = list(path.stat())
    found = os.stat_result(status, {"st_blocks": blocks})
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *_, **__: found)
        assert reading.held_bytes(path) == 1 << 20
        patch.delattr(os, "SEEK_DATA", raising=False)
        assert reading.held_bytes(path) == 1 << 20
