"""Encode pictures on a Ray cluster, or on this machine through Ray: `clipcache extract --ray`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...cache.common.atomic import remove_stale_temporaries, temporary_name
from ...cache.common.errors import ClipcacheError, UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.messages import is_shown
from ...cache.common.quoting import quoted
from ...cache.format.names import model_dir_name
from ..inputs import Item, find_items, size_of
from ..models.registry import find_weights
from ..options import ExtractOptions
from ..prepare import check_is_folder
from ..progress import OnProgress, Progress, Summary
from ..session import make_folder
from .ray_actor import Job
from .ray_driver import Driver

LOCAL = "local"
_REACH_S = 10.0
_OBJECT_STORE_BYTES = 100 << 20  # nothing large travels; more would only take memory


def extract_on_ray(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: str | os.PathLike[str] = "features",
    options: ExtractOptions | None = None,
    address: str = LOCAL,
    *,
    list_file: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Encode like `extract`, on every device of a Ray cluster.

    Videos, cache and a weights file that is named must be on a disk that all nodes share, under the same path.

    Args:
        inputs: files, folders and globs.
        cache_dir: the cache; made if need be.
        options: how; None for the defaults. Of devices "auto", "cpu" and "cuda" can be asked for.
        address: of the cluster; "auto" finds one that runs on this machine, "local" starts one and stops it in the end.
            Where this process is connected to a cluster already, that one is used.
        list_file: a file with further paths.
        on_progress: as of `extract`.

    Returns:
        How it went; items that were cached by an actor which was lost then count as cached, not as extracted.

    Raises:
        UsageError: if Ray is not installed, there is no cluster, there is nothing to work on, or the model is unknown.
        ModelError: if weights are missing, or of no node those of this process.
        CacheError: if the cache cannot be written, or no node has it.
    """
    options = options or ExtractOptions()
    cache_dir = Path(os.path.abspath(cache_dir))  # noqa: PTH100  it need not exist
    started = time.monotonic()
    ray = _import_ray()
    if options.device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--ray gives each actor a device of its own, so --device cannot be {options.device}",
            "choose auto, cpu or cuda",
        )
    check_is_folder(cache_dir)
    items = [_absolute(item) for item in find_items(inputs, list_file, shard=options.shard)]
    if elsewhere := next((item for item in items if item.source is not None), None):
        raise UsageError(
            f"--ray takes files on a shared disk, and {quoted(elsewhere.name)} is not one",
            "leave out --ray, and let each host take its part with --shard",
        )
    weights = find_weights(options.model, options.weights, DigestMemo())
    if options.weights is not None:
        options = dataclasses.replace(options, weights=os.path.abspath(options.weights))  # noqa: PTH100
    make_folder(cache_dir)
    remove_stale_temporaries(cache_dir)
    model_dir = model_dir_name(weights.model, weights.sha256)
    sizes = [size_of(item) for item in items]
    with _marked(cache_dir) as marker, _connected(ray, address, debug=options.debug):
        job = Job(cache_dir, marker, options, weights.sha256)
        progress = Progress("frames", verbose=options.verbose, show=is_shown(), on_progress=on_progress)
        driver = Driver(ray, job, items, sizes, model_dir, progress)
        driver.run()
    driver.summary.seconds = time.monotonic() - started
    return driver.summary


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here tells nobody
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--ray needs Ray", "install it with: pip install 'clipcache[ray]'") from error


def _absolute(item: Item) -> Item:
    """An item by paths that mean the same on every node."""
    if item.source is not None:
        return item
    images = tuple(Path(os.path.abspath(path)) for path in item.images)  # noqa: PTH100
    return dataclasses.replace(item, path=Path(os.path.abspath(item.path)), images=images)  # noqa: PTH100


@contextlib.contextmanager
def _marked(cache_dir: Path) -> Iterator[str]:
    """Put a file into the cache, by which an actor sees that its folder of this name is the driver's; give its name."""
    marker = cache_dir / temporary_name()
    try:
        marker.touch(exist_ok=False)
    except OSError as error:
        raise UsageError(f"Cannot write to the cache {quoted(cache_dir)} ({error.strerror})") from error
    try:
        yield marker.name
    finally:
        marker.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(ray: Any, address: str, *, debug: bool) -> Iterator[None]:
    """Connect to a cluster, or start one; what Ray prints is thrown away unless `debug`."""
    with contextlib.ExitStack() as stack:
        shown = sys.stderr if debug else stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123
        stack.enter_context(contextlib.redirect_stdout(shown))
        if not ray.is_initialized():
            _connect(ray, address, debug=debug)
            stack.callback(ray.shutdown)
        yield


def _connect(ray: Any, address: str, *, debug: bool) -> None:
    of_local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    level = logging.INFO if debug else logging.CRITICAL
    with _own_sigterm():
        try:
            _check_reachable(address)
            ray.init(
                address=address, log_to_driver=debug, logging_level=level, **(of_local if address == LOCAL else {})
            )
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ClipcacheError(
                f"Cannot connect to a Ray cluster by --ray {address} ({why})",
                "start one with `ray start --head`, or use this machine alone with --ray local",
            ) from error


def _check_reachable(address: str) -> None:
    """Raise OSError where nobody answers: Ray itself tries for minutes, and ends the program."""
    if match := re.fullmatch(r"([^/]+):(\d+)", address):
        socket.create_connection((match[1].strip("[]"), int(match[2])), _REACH_S).close()


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
