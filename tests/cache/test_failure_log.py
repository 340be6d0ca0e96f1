"""`failed.jsonl`: whatever a line holds, a run goes on, and the other failures are known."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from clipcache.cache.common.errors import CacheError
from clipcache.cache.common.reading import MAX_LINE_BYTES
from clipcache.cache.failure_log import Failure, FailureLog
from clipcache.cli import cli

FAILURE = Failure("a.mp4", "ab" * 32, "MediaError", "It is \x1b[31mdamaged.", "2026-01-01\x1b[0m", "ViT-B-32-cdcdcdcd")
GOOD = json.dumps(asdict(FAILURE)).encode()
HOSTILE = {
    "not UTF-8": b"\xff\xfe\x00{",
    "zeros": bytes(10_000),
    "lists in lists": b"[" * 100_000,
    "objects in objects": b'{"a":' * 100_000,
    "a list": b"[1, 2]",
    "a number": b"7",
    "a number of many digits": b"9" * 100_000,
    "not a number": b"NaN",
    "other keys": b'{"path": "x"}',
    "other types": json.dumps(dict.fromkeys(asdict(FAILURE), 7)).encode(),
    "a lone surrogate": GOOD.replace(b"a.mp4", rb"\ud800").replace(b"abab", b"acac"),
    "cut short": GOOD[:30],
    "longer than any failure": b'{"path": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}',
    "blank": b" \t\r",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("ends", [True, False], ids=["before", "after"])
def test_a_hostile_line_is_left_out(tmp_path: Path, line: bytes, ends: bool) -> None:
    log = FailureLog(tmp_path)
    log.path.write_bytes(b"\n".join([line, GOOD] if ends else [GOOD, line]))
    assert log.read()[FAILURE.sha256] == FAILURE
    other = Failure("b.mp4", "cd" * 32, "MediaError", "Damaged.", "2026", "ViT-B-32-cdcdcdcd")
    log.append(other)
    assert {FAILURE.key, other.key} <= set(log.read())
    result = CliRunner().invoke(cli, ["cache", "failures", "--cache", str(tmp_path)])
    assert result.exit_code == 0
    assert r"It is \x1b[31mdamaged." in result.stdout
    assert "\x1b" not in result.output
    log.forget([FAILURE.key])
    assert FAILURE.key not in log.read()
    assert log.read()[other.key] == other


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    log = FailureLog(tmp_path)
    os.mkfifo(log.path)
    with pytest.raises(CacheError, match="pipe or a device"):
        log.read()
    log.path.unlink()
    log.path.symlink_to("/dev/zero")
    with pytest.raises(CacheError, match="pipe or a device"):
        log.forget(["x"])
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(CacheError, match="folder"):
        log.read()
