"""Processes that run a module of this package: started with this process' module path, and ended with it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

GRACE_SECONDS = 2.0
_ORPHAN_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def boot_code(module: str) -> str:
    """A program that runs `main` of a module of clipcache's.

    It gets the parent's module search path and nothing from the current folder; being a program of its own, it never
    imports the caller's script again, and needs no `if __name__ == "__main__"` there.
    """
    return f"import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from {module} import main; main()"


def start(
    code: str, settings: Mapping[str, Any], descriptors: tuple[int, ...], *, quiet: bool, threads: int
) -> subprocess.Popen[bytes]:
    """Start a process.

    Args:
        code: from `boot_code`.
        settings: what `main` finds as JSON in `sys.argv[1]`, together with "parent", the id of this process.
        descriptors: open files that it gets under the same numbers.
        quiet: throw away what it writes to stderr.
        threads: how many its libraries may use.
    """
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps({**settings, "parent": os.getpid()}), json.dumps(sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        pass_fds=descriptors,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process at once."""
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # a process that waits for a dead disk cannot even be killed
        process.wait(GRACE_SECONDS)


def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """How a process ended, negative for a signal; None where it runs on without its connection."""
    try:
        return process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def follow_parent(parent: int) -> None:
    """End this process when its parent is gone, and not by Ctrl-C, which reaches the whole group: the parent decides.

    Args:
        parent: process id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before this was said
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone, even while a decoder hangs; for systems other than Linux."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_SECONDS)
    os._exit(1)
