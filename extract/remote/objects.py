"""Objects of object stores, and whatever else fsspec knows: found by prefix or pattern, read in ranges."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ...cache.common.errors import UsageError
from ...cache.common.hashing import natural_key
from ...cache.common.quoting import quoted
from ...cache.common.urls import without_credentials
from .blobs import CHANGED, BlobError, Status, persistently
from .names import escaped, without_user_alone

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PART_BYTES = 8 << 20
_MAGIC = frozenset("*?[")
_LOGGING = ("aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "gcsfs", "google", "s3fs", "urllib3")
_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})


class ObjectBlob:
    """An object; see `Blob`.

    Args:
        files: the file system, of fsspec.
        path: the object's name in it.
        place: the host in its URL, for a file system whose names do not have it.
        info: what a listing says of it; None asks.
    """

    is_seekable = True

    def __init__(self, files: Any, path: str, place: str = "", info: dict[str, Any] | None = None) -> None:
        scheme, _, rest = files.unstrip_protocol(path).partition("://")
        has_place = scheme == "file" or not rest.startswith("/") or rest.lstrip("/").startswith(place)
        self.key = without_user_alone(f"{scheme}://{rest if has_place else place + rest}")
        self.name = escaped(self.key)
        self._files = files
        self._path = path
        self._info = info

    def status(self) -> Status:
        """See `Blob`."""
        if self._info is None:
            self._info = persistently(lambda: _asked(self._files.info, self._path))
        return _status_of(self._info)

    def open(self, offset: int, count: int | None) -> tuple[BinaryIO, int]:
        """See `Blob`."""
        size = self.status().size
        if size is None:
            raise BlobError("its size is not known")
        end = size if count is None else min(size, offset + count)
        return cast(BinaryIO, io.BufferedReader(_Parts(self._files, self._path, offset, end), 1 << 16)), offset

    def check(self) -> None:
        """See `Blob`."""
        self._files.invalidate_cache(self._files._parent(self._path))
        if _status_of(persistently(lambda: _asked(self._files.info, self._path))) != self.status():
            raise BlobError(CHANGED)


class _Parts(io.RawIOBase):
    """Reads an object in parts; each is a request."""

    def __init__(self, files: Any, path: str, start: int, end: int) -> None:
        self._files = files
        self._path = path
        self._position = start
        self._end = end
        self._part = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        if not self._part and self._position < self._end:
            end = min(self._end, self._position + _PART_BYTES)
            self._part = memoryview(_asked(self._files.cat_file, self._path, start=self._position, end=end))
            self._position += len(self._part)
        view = memoryview(buffer)
        count = min(len(view), len(self._part))
        view[:count] = self._part[:count]
        self._part = self._part[count:]
        return count


def find_objects(url: str) -> Iterator[ObjectBlob | tuple[str, str]]:
    """The object of a URL, all below a prefix, or all that a pattern matches, in natural order.

    What cannot be listed gives its name and the reason.

    Raises:
        UsageError: if the package for the URL is not installed, or there is none.
    """
    files, path = _file_system(url)
    files.invalidate_cache()  # of an earlier run in this process
    try:
        found = persistently(lambda: _found(files, path))
    except BlobError as error:
        yield without_credentials(url), error.reason
        return
    place = without_user_alone(url).partition("://")[2].partition("/")[0]
    for one in sorted(found, key=natural_key):
        yield ObjectBlob(files, one, place, found[one])


def listed_prefix(url: str) -> str:
    """The part of a URL before what is listed: a folder's own name, of a pattern the folders without one."""
    name = without_user_alone(url)
    folders = name.split("/")
    plain = next((row for row, folder in enumerate(folders) if _MAGIC & set(folder)), len(folders))
    return "/".join(folders[:plain]).rstrip("/") + "/"


def _found(files: Any, path: str) -> dict[str, dict[str, Any]]:
    try:
        info = _asked(files.info, path)
    except BlobError as error:
        if not _MAGIC & set(path):
            raise
        matches: dict[str, dict[str, Any]] = _asked(files.glob, path, detail=True)
        if not matches and error.is_passing:
            raise
        return {one: info for one, info in matches.items() if info.get("type") == "file"}
    if info.get("type") != "directory":
        return {path: info}
    below: dict[str, dict[str, Any]] = _asked(files.find, path, detail=True)
    return below


def _file_system(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    if "::" in url:
        raise UsageError("A URL with '::', which names a file within another, is not read", "copy it to a disk")
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise _not_installed(url) from None
    for package in _LOGGING:  # else their warnings, which may hold credentials, go to stderr
        if not logging.getLogger(package).handlers:
            logging.getLogger(package).addHandler(logging.NullHandler())
    try:
        files, path = url_to_fs(url)
    except ImportError:
        raise _not_installed(url) from None
    except Exception as error:  # noqa: BLE001  each file system has errors of its own
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise UsageError(f"There is no kind of URL that begins with {quoted(scheme + '://')}") from None
        raise UsageError(
            f"Cannot use {quoted(without_credentials(url))} ({type(error).__name__})", "check the URL"
        ) from None
    return files, path


def _not_installed(url: str) -> UsageError:
    return UsageError(
        f"The package that reads {quoted(without_credentials(url))} is not installed",
        "install it: pip install 'clipcache[remote]'",
    )


def _asked(question: Any, *what: Any, **how: Any) -> Any:
    """The answer of a file system; its errors become `BlobError` without their text, which may hold credentials."""
    try:
        return question(*what, **how)
    except FileNotFoundError:
        raise BlobError("it is not there") from None
    except PermissionError:
        raise BlobError("access is denied; check the credentials") from None
    except TimeoutError:
        raise BlobError("no answer came in time", is_passing=True) from None
    except Exception as error:  # noqa: BLE001  each file system has errors of its own
        kind = type(error).__name__
        if kind in _NO_CREDENTIALS:
            raise BlobError("there are no credentials for it") from None
        raise BlobError(f"the store does not answer ({kind})", is_passing=True) from None


def _status_of(info: dict[str, Any]) -> Status:
    size = info.get("size")
    sign = next((info[name] for name in ("ETag", "etag", "md5Hash", "crc32c", "checksum") if info.get(name)), None)
    if sign is None:
        times = ("LastModified", "last_modified", "updated", "mtime", "created")
        sign = next((info[name] for name in times if info.get(name)), None)
        sign = sign.timestamp() if isinstance(sign, datetime) else sign  # some say it in a listing in another way
    return Status(size, None if size is None or sign is None else f"{sign} {size}")
