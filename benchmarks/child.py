"""Processes that call functions when asked: what is measured side by side shares no threads, heap or imports.

A child answers one JSON line for each it gets: {"function": "module:name", "arguments": {...}}.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class ChildError(RuntimeError):
    """A function failed in a child, or the child itself did."""


class Child:
    """One process; give it functions of modules that can be imported without cost.

    Args:
        environment: All of it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "benchmarks.child"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), text=True, **pipes)

    def start(self, function: Callable[..., Any], **arguments: Any) -> None:
        """Let it call `function`; arguments and result must be fit for JSON."""
        assert self._process.stdin is not None  # noqa: S101  a pipe was asked for
        name = f"{function.__module__}:{function.__qualname__}"
        self._process.stdin.write(json.dumps({"function": name, "arguments": arguments}, default=str) + "\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """Wait for what was started.

        Raises:
            ChildError: It failed; the text is its traceback.
        """
        assert self._process.stdout is not None  # noqa: S101  a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(f"A child ended with exit code {self._process.wait()}.")
        reply = json.loads(line)
        if "error" in reply:
            raise ChildError(reply["error"])
        return reply["result"]

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """`start`, then `result`."""
        self.start(function, **arguments)
        return self.result()

    def close(self) -> None:
        """Let the process end, and wait for that."""
        assert self._process.stdin is not None  # noqa: S101  a pipe was asked for
        assert self._process.stdout is not None  # noqa: S101  a pipe was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Serve until the pipe is closed. Whatever else prints to stdout goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            module, name = request["function"].split(":")
            reply = {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
        except Exception:  # noqa: BLE001  the parent shall hear of everything
            reply = {"error": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
