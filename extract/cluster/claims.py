"""Claims: a run says which item it is encoding, so that others over the same cache do something else meanwhile.

`<cache>/<model folder>/.claims/<sha16>[.<sampling>]` is a small file, made by whoever is first (`O_CREAT | O_EXCL`),
touched once a minute, and removed when the item is done. A claim is advice: entries are renamed into place whoever
writes them, so that a claim that is lost, or taken over too early, costs time and never a result.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...cache.common.atomic import host_name, is_alive
from ...cache.common.reading import read_bounded
from ...cache.format.sampling import Sampling
from ...cache.format.schema import storable_path, utc_now
from ..inputs import HashedItem

HEARTBEAT_S = 60.0
STALE_AFTER_S = 10 * HEARTBEAT_S
"""The claim of a run on another host that has not been touched for so long belongs to nobody. Clocks of hosts that
share a disk may differ by minutes, so it is several heartbeats."""

_FOLDER = ".claims"
_ASIDE = ".stale-"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Owner:
    """Who holds a claim.

    Attributes:
        host: name of the host and, on Linux, its process namespace.
        pid: of the process.
        started: when the process began, in the system's own count; tells it from a later one with the same number.
        token: random, of one run.
    """

    host: str
    pid: int
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Owner:
        """This run."""
        return cls(host_name(), os.getpid(), _started(os.getpid()), secrets.token_hex(8))

    @property
    def is_gone(self) -> bool | None:
        """Whether the process has ended; None where that cannot be seen: on another host."""
        if self.host != host_name():
            return None
        return not is_alive(self.pid) or _started(self.pid) != self.started


class Claims:
    """The claims of one run on the items of one model.

    Args:
        model_folder: the cache's folder for the model's weights.
    """

    def __init__(self, model_folder: Path) -> None:
        self._folder = model_folder / _FOLDER
        self._owner = Owner.this_process()
        self._held: set[Path] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._heartbeat: threading.Thread | None = None

    @property
    def token(self) -> str:
        """What tells the claims of this run from those of others; see `drop_claims`."""
        return self._owner.token

    def take(self, item: HashedItem, sampling: Sampling) -> bool:
        """Claim an item; False if another run is at it.

        Where claims cannot be written (a read-only or a full disk), each item counts as claimed.
        """
        path = self._path(item, sampling)
        if path in self._held:
            return True
        try:
            return self._create(path, item) or (_is_stale(path) and self._take_over(path, item))
        except OSError:
            return True

    def release(self, item: HashedItem, sampling: Sampling) -> None:
        """Give an item back, done or not."""
        self._remove(self._path(item, sampling))

    def close(self) -> None:
        """Give everything back."""
        self._is_over.set()
        for path in list(self._held):
            self._remove(path)
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):  # of runs that were killed
                if _is_stale(path):
                    self._put_aside(path)
            self._folder.rmdir()  # the last run leaves nothing

    def _path(self, item: HashedItem, sampling: Sampling) -> Path:
        return self._folder / claim_name(item.sha256, sampling)

    def _create(self, path: Path, item: HashedItem) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        said = {**asdict(self._owner), "since": utc_now(), "path": storable_path(item.item.name)}
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(json.dumps(said, allow_nan=False))
        except OSError:  # a full disk: a claim that names nobody would keep others off for minutes
            path.unlink()
            raise
        with self._lock:
            self._held.add(path)
        self._start_heartbeat()
        return True

    def _take_over(self, path: Path, item: HashedItem) -> bool:
        """Remove a stale claim and make our own; of several runs that try, one succeeds."""
        self._put_aside(path)
        return self._create(path, item)

    def _put_aside(self, path: Path) -> None:
        """Remove a stale claim; where another run took it over since we looked, it gets it back."""
        aside = path.with_name(f"{path.name}{_ASIDE}{self._owner.token}")
        with contextlib.suppress(OSError):
            path.rename(aside)
            if not _is_stale(aside):
                os.link(aside, path)
        with contextlib.suppress(OSError):
            aside.unlink()

    def _remove(self, path: Path) -> None:
        with self._lock:
            if path not in self._held:
                return
            self._held.discard(path)
        if owner_of(path) == self._owner:  # not where it was taken over
            with contextlib.suppress(OSError):
                path.unlink()

    def _start_heartbeat(self) -> None:
        if self._heartbeat is None:
            self._heartbeat = threading.Thread(target=self._beat, daemon=True)
            self._heartbeat.start()

    def _beat(self) -> None:
        while not self._is_over.wait(HEARTBEAT_S):
            with self._lock:
                held = list(self._held)
            for path in held:
                with contextlib.suppress(OSError):
                    os.utime(path)


@dataclass(frozen=True)
class Claim:
    """A claim as it lies in the cache.

    Attributes:
        name: of its file, as `claim_name` gives it.
        owner: who holds it; None where the file does not say.
        since: when it was made, ISO 8601 in UTC; "" where the file does not say.
        path: of the item on the owner's host, as `storable_path` gives it; "" where the file does not say.
        is_stale: whether the next run may take it over.
    """

    name: str
    owner: Owner | None
    since: str
    path: str
    is_stale: bool


def claim_name(sha256: str, sampling: Sampling) -> str:
    """Name of the file that claims a content: "0123456789abcdef", of some frames "0123456789abcdef.fps=2"."""
    return sha256[:16] + ("" if sampling.is_all else f".{sampling}")


def list_claims(model_folder: Path) -> list[Claim]:
    """Every claim on items of one model, sorted by name; none where there are none, or they cannot be read."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((model_folder / _FOLDER).iterdir()):
            if _ASIDE not in path.name and not path.name.startswith("."):
                said = _read(path)
                since, place = (str(said.get(name, "")) for name in ("since", "path"))
                found.append(Claim(path.name, _owner(said), since, place, _is_stale(path)))
    return found


def _is_stale(path: Path) -> bool:
    try:
        age_s = time.time() - path.stat().st_mtime
        owner = owner_of(path)
    except FileNotFoundError:
        return True  # released meanwhile
    is_gone = owner.is_gone if owner is not None else None
    return age_s > STALE_AFTER_S if is_gone is None else is_gone


def owner_of(path: Path) -> Owner | None:
    """Who holds a claim; None if the file is not one, is being written, or is gone."""
    return _owner(_read(path))


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing if the file is not one, is being written, or is gone."""
    try:
        said = json.loads(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _owner(said: dict[str, Any]) -> Owner | None:
    try:
        owner = Owner(str(said["host"]), int(said["pid"]), str(said["started"]), str(said["token"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return owner if 0 < owner.pid < 1 << 31 else None  # beyond that the system cannot be asked


def drop_claims(model_folder: Path, token: str) -> None:
    """Remove the claims of a run that is known to be gone; on another host nothing else shows that for minutes."""
    with contextlib.suppress(OSError):
        for path in list((model_folder / _FOLDER).iterdir()):
            owner = owner_of(path)
            if owner is not None and owner.token == token:
                path.unlink()


def _started(pid: int) -> str:
    """When a process began, as Linux counts it; "" elsewhere, where its number must do."""
    with contextlib.suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]  # the name before may hold blanks and brackets
    return ""
