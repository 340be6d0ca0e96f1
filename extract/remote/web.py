"""Files of web servers, by HTTP(S): asked for in ranges where the server gives them."""

from __future__ import annotations

import base64
import re
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from ...cache.common.urls import without_credentials
from .blobs import CHANGED, BlobError, Status, persistently
from .names import identity, without_user

TIMEOUT_S = 30.0
"""How long a server may say nothing."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PART = re.compile(r"bytes (?:(?P<start>[0-9]{1,18})-[0-9]{1,18}|\*)/(?P<total>[0-9]{1,18})", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


class _WebAlone(urllib.request.HTTPRedirectHandler):
    """Follows redirections to web servers, not to FTP."""

    def redirect_request(
        self, request: Any, response: Any, code: int, message: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        if not url.lower().startswith(("https://", "http://")):
            response.close()
            raise BlobError("it is redirected to what is not a web server")
        again = super().redirect_request(request, response, code, message, headers, url)
        user = request.unredirected_hdrs.get("Authorization")
        if again is not None and user and (again.type, again.host) == (request.type, request.host):
            again.add_unredirected_header("Authorization", user)
        return again


_OPENER = urllib.request.build_opener(_WebAlone)


class WebBlob:
    """What a URL gives; see `Blob`. User and password in it are for its own server, not for one it redirects to.

    Raises:
        ValueError: if it is not a valid URL.
    """

    def __init__(self, url: str) -> None:
        self.name = without_credentials(url)
        self.key = identity(url)
        self._url, self._user = without_user(url)
        self._status: Status | None = None
        self._is_seekable = True

    @property
    def is_seekable(self) -> bool:
        """See `Blob`."""
        return self._is_seekable

    def status(self) -> Status:
        """See `Blob`. The first byte is asked for: a signed URL allows no HEAD."""
        if self._status is None:
            response = persistently(lambda: self._ask("bytes=0-0"))
            response.close()
            self._status = _status_of(response)
            # Without the size it cannot be seen whether a part is all of the rest; the whole says its length itself.
            self._is_seekable = response.status == 206 and self._status.size is not None
        return self._status

    def open(self, offset: int, count: int | None) -> tuple[BinaryIO, int]:
        """See `Blob`."""
        expected = self.status()
        if not self._is_seekable:
            offset = 0
        end = "" if count is None else offset + count - 1
        response = self._ask(f"bytes={offset}-{end}" if self._is_seekable and (offset or count is not None) else None)
        if response.status == 206 and _start_of(response) != offset:
            response.close()
            raise BlobError("the server gives another part than it is asked for")
        found = _status_of(response)
        known = ((found.stamp, expected.stamp), (found.size, expected.size))
        if any(None not in pair and pair[0] != pair[1] for pair in known):
            response.close()
            raise BlobError(CHANGED)
        if expected.size is None:
            self._status = Status(found.size, None)
        return cast(BinaryIO, response), offset if response.status == 206 else 0

    def check(self) -> None:
        """See `Blob`; each answer has said of what it is."""

    def _ask(self, span: str | None) -> HTTPResponse:
        request = urllib.request.Request(self._url, headers={"Accept-Encoding": "identity"})  # noqa: S310  is_web
        if span is not None:
            request.add_header("Range", span)
        if self._user:
            word = base64.b64encode(unquote(self._user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {word}")
        try:
            response: HTTPResponse = _OPENER.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and span == "bytes=0-0":
                    return cast(HTTPResponse, _Empty())
                raise BlobError(_reason(error.code), is_passing=error.code in _PASSING) from None
        except (OSError, HTTPException, ValueError) as error:
            raise _no_answer(error) from None
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise BlobError("the server sends it in another encoding")
        return response


class _Empty:
    """The answer to a question for the first byte of an empty file."""

    status = 206
    headers = {"Content-Range": "bytes */0"}  # noqa: RUF012  never changed

    def close(self) -> None:
        """Nothing is open."""


def _status_of(response: HTTPResponse) -> Status:
    headers = response.headers
    if response.status == 206:
        part = _PART.fullmatch(headers.get("Content-Range", ""))
        size = int(part["total"]) if part else None
    else:
        length = _LENGTH.fullmatch(headers.get("Content-Length", ""))
        size = int(length[0]) if length else None
    sign = headers.get("ETag") or headers.get("Last-Modified")
    return Status(size, None if size is None or not sign else f"{sign} {size}")


def _start_of(response: HTTPResponse) -> int | None:
    part = _PART.fullmatch(response.headers.get("Content-Range", ""))
    return int(part["start"]) if part and part["start"] else None


def _reason(code: int) -> str:
    if code in (404, 410):
        return f"it is not there (HTTP {code})"
    if code in (401, 403):
        return f"access is denied (HTTP {code}); check the credentials"
    return f"the server answers HTTP {code}"


def _no_answer(error: Exception) -> BlobError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return BlobError("no answer came in time", is_passing=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BlobError("the server's certificate is not valid")
    if isinstance(error, ValueError | InvalidURL):
        return BlobError("the URL is not valid")
    kind = type(cause).__name__ if isinstance(cause, Exception) else "no connection"
    return BlobError(f"no connection to the server ({kind})", is_passing=True)
