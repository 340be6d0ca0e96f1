"""Atomic writing: write a temporary file, check it, move it to its name. Readers never see a part of a file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import CacheError, UsageError
from .paths import exists, is_file, is_folder
from .quoting import quoted

STALE_AFTER_S = 24 * 3600
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})
_TEMPORARY = re.compile(r"\.clipcache-(?P<host>[A-Za-z0-9_-]+)\.tmp-(?P<pid>\d+)-[0-9a-f]+")


def write_atomically(
    path: Path, data: bytes, *, check: Callable[[Path], None] | None = None, durable: bool = True
) -> None:
    """Put `data` at `path`, replacing what is there, so that readers see either the old file or the new one.

    Args:
        path: the file to write; its folder is created if it does not exist.
        data: its content.
        check: called with the temporary file before it is moved; what it raises stops the move.
        durable: whether to wait until the disk holds the data.

    Raises:
        CacheError: if the file cannot be written: full or read-only disk, no permission.
    """
    with replacing(path, check=check, durable=durable) as temporary:
        _write_all(temporary, data)


@contextlib.contextmanager
def replacing(
    path: Path, *, check: Callable[[Path], None] | None = None, durable: bool = True, make_folder: bool = True
) -> Iterator[Path]:
    """Give the name of a temporary file to write, and move it to `path` at the end: for files too large for memory.

    A symbolic link stays, and what it leads to is replaced. A device or a pipe stays too: the content is copied to it.

    Args:
        path: the file to make or replace.
        check: called with the temporary file before it is moved; what it raises stops the move.
        durable: whether to wait until the disk holds the data.
        make_folder: whether a folder that does not exist is created; otherwise it is an error.

    Raises:
        CacheError: if the file cannot be written: full or read-only disk, no permission.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    is_special = exists(path) and not is_file(path) and not is_folder(path)
    temporary = Path(tempfile.gettempdir() if is_special else path.parent) / temporary_name()
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if is_special:
            _copy_into(temporary, path)
            return
        if durable:
            _sync(temporary)
        if check is not None:
            check(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - one call that a test can make fail
        if durable:
            _sync(path.parent)
    except OSError as error:
        raise CacheError(
            f"Cannot write {quoted(path)} ({error.strerror or error})",
            "free space, fix permissions or choose another folder",
        ) from error
    finally:
        # It no longer exists after a successful move; after anything else, an interrupt included, it must be removed.
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replacing_output(path: Path, *, durable: bool = True, make_folder: bool = False) -> Iterator[Path]:
    """As `replacing`, for a file that the user named.

    Raises:
        UsageError: if the path cannot be written.
        CacheError: if the disk is full, damaged or read-only, or takes no file of that size.
    """
    try:
        with replacing(path, durable=durable, make_folder=make_folder) as temporary:
            yield temporary
    except CacheError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _OF_THE_DISK:
            raise
        raise UsageError(error.problem, error.remedy) from error


def _copy_into(source: Path, device: Path) -> None:
    with source.open("rb") as content, device.open("wb", buffering=0) as target:
        shutil.copyfileobj(content, target)


def remove_file(path: Path) -> None:
    """Remove `path`, if it exists.

    Raises:
        CacheError: if it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"Cannot remove {quoted(path)} ({error.strerror or error})") from error


def temporary_name() -> str:
    """A name for a temporary file that says which process on which host writes it."""
    return f".clipcache-{host_name()}.tmp-{os.getpid()}-{secrets.token_hex(6)}"


def remove_stale_temporaries(directory: Path, *, below: bool = True) -> int:
    """Remove the temporary files of killed runs: of dead processes of this host, or older than a day.

    Args:
        directory: where to look.
        below: whether to look into the folders below it too.

    Returns:
        How many were removed. One that cannot be removed (read-only disk) is skipped.
    """
    removed = 0
    for folder, below_it, names in os.walk(directory):
        if not below:
            below_it.clear()
        for name in names:
            match = _TEMPORARY.fullmatch(name)
            if match and _is_stale(Path(folder, name), match["host"], int(match["pid"])):
                with contextlib.suppress(OSError):
                    Path(folder, name).unlink()
                    removed += 1
    return removed


def _write_all(path: Path, data: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


def _sync(path: Path) -> None:
    """Wait until the disk holds a file, or a folder's list of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename is in place all the same.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def host_name() -> str:
    """The scope of a process number: the host's name and, on Linux, the process namespace (containers)."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:60]
    with contextlib.suppress(OSError):
        return f"{name}-{Path('/proc/self/ns/pid').stat().st_ino}"
    return f"{name}-0"


def _is_stale(path: Path, host: str, pid: int) -> bool:
    if host == host_name() and not is_alive(pid):
        return True
    try:
        return time.time() - path.stat().st_mtime > STALE_AFTER_S
    except FileNotFoundError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process of this host exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
