"""5. The skip path: what a run over files costs that are all in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .context import Context
from .entries import write_entries
from .report import Row, Section, Target
from .timing import alternate, seconds_of

_FILE_BYTES = 2048
_HOUR_S = 3600


def measure(context: Context) -> Section:
    """Extract, --dry-run and cache ls over files that are all cached."""
    count, library, cache = context.sizes.skipped_videos, context.folder(), context.folder()
    weights = context.weights("tiny")
    context.child("skip").call(make_library, library=library, cache=cache, weights=weights, count=count)
    words = context.extract_words([library], cache, "tiny")
    first = seconds_of(lambda: context.run(*words))
    sides = {
        "extract": partial(_timed, context, words, f"{count} cached"),
        "dry run": partial(_timed, context, [*words, "--dry-run"], f"{count} cached"),
        "ls": partial(_timed, context, ["cache", "ls", "--cache", cache], f"{count} entries"),
    }
    rounds = alternate(sides, context.sizes.rounds)
    opened = context.child("skip").call(
        count_opened,
        commands=[words, [*words, "--dry-run"]],
        expected=f"{count} cached",
        control=["cache", "ls", "--cache", str(cache)],
    )
    context.drop()
    for folder in (library, cache):
        shutil.rmtree(folder)
    bound = Target("<=", 5.0 * count / 10_000, of_value=True, text="<= 5 s for 10,000")
    none = Target("<=", 0.0, of_value=True, text="none")
    rows = [
        Row(f"extract, {count:,} cached files", rounds.median("extract"), "s", None, bound, rounds.count),
        Row(f"extract --dry-run, {count:,} cached files", rounds.median("dry run"), "s", runs=rounds.count),
        Row("HDF5 files opened by these two", float(opened), "", None, none, 2),
        Row(f"extract, {count:,} cached files, content hashes not yet known", first, "s"),
        Row(f"cache ls, {count:,} entries (opens each)", rounds.median("ls"), "s", runs=rounds.count),
    ]
    notes = [
        f"Whole processes, from start to end. Files of {_FILE_BYTES:,} bytes named .mp4, each of its own content, and "
        "entries of one frame; hashing real videos for the first time takes as long as reading them.",
        "Opened files were counted in a run apart from the timed ones, at h5py.File and at the interpreter's own open.",
    ]
    return Section("5. The skip path", rows, notes)


def _timed(context: Context, words: Sequence[str | Path], expected: str) -> float:
    """Seconds of a whole process.

    Raises:
        RuntimeError: It did not say what it should.
    """
    said = ""

    def run() -> None:
        nonlocal said
        said = context.run(*words)

    seconds = seconds_of(run)
    if expected not in said:
        raise RuntimeError(f"{words} did not say {expected!r} but {said[-200:]!r}")
    return seconds


def make_library(library: str, cache: str, weights: str, count: int) -> None:
    """In the child: small files, an hour old, and an entry for each."""
    from clipcache.cache.common.hashing import sha256_file

    long_ago = time.time() - _HOUR_S
    videos = []
    for number in range(count):
        path = Path(library, f"{number // 1000:02d}", f"video-{number:05d}.mp4")
        path.parent.mkdir(exist_ok=True)
        content = f"video {number} ".encode().ljust(_FILE_BYTES, b".")
        path.write_bytes(content)
        os.utime(path, (long_ago, long_ago))  # a file that has just changed is hashed again each time
        videos.append((path.name, hashlib.sha256(content).hexdigest()))
    os.utime(weights, (long_ago, long_ago))
    write_entries(Path(cache), videos, sha256_file(weights), 1)


def count_opened(commands: Sequence[Sequence[str]], expected: str, control: Sequence[str]) -> int:
    """In the child: how many HDF5 files commands of clipcache open, by h5py or otherwise.

    Raises:
        RuntimeError: One of them did not say what it should, or `control`, which opens files, was not seen to.
    """
    import h5py
    from clipcache.cli import cli

    opened: list[Any] = []

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(".h5"):
            opened.append(arguments[0])

    class Counted(h5py.File):  # type: ignore[misc]
        def __init__(self, *given: Any, **named: Any) -> None:
            opened.append(given[0])
            super().__init__(*given, **named)

    sys.addaudithook(listen)
    plain, h5py.File = h5py.File, Counted
    try:
        for words in commands:
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                cli.main(list(words), standalone_mode=False)
            if expected not in said.getvalue():
                raise RuntimeError(f"{words} did not say {expected!r} but {said.getvalue()[-200:]!r}")
        count = len(opened)
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(list(control), standalone_mode=False)
    finally:
        h5py.File = plain
    if len(opened) == count:
        raise RuntimeError(f"{control} opened no file: the counter is blind")
    return count
