"""A web server for tests: slow, breaking off, lying about lengths or refusing as told; it counts what it sends."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Page:
    """What the server does for one path.

    Attributes:
        data: the content.
        ranges: whether parts of it can be asked for.
        etag: whether it has one.
        break_after: of each answer, so many bytes of the body are sent; None for all.
        extra: so many more bytes are announced than there are.
        statuses: answers to the first requests, before the content is given.
        location: where it is redirected to; "" for nowhere.
        pause_s: before each block of 16 KiB.
        length: whether the length is announced at all.
        total: whether an answer with a part says how much there is.
        part_start: where each part begins, wherever it is asked for; None for there.
    """

    data: bytes = b""
    ranges: bool = True
    etag: bool = True
    break_after: int | None = None
    extra: int = 0
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    pause_s: float = 0.0
    length: bool = True
    total: bool = True
    part_start: int | None = None


@dataclass
class Request:
    """A request as it came, and how many bytes of a body were sent."""

    path: str
    headers: dict[str, str]
    sent: int = 0


class WebServer:
    """Pages by path, and the requests so far."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.place = f"127.0.0.1:{port}"
        self.pages: dict[str, Page] = {}
        self.requests: list[Request] = []

    @property
    def sent(self) -> int:
        """Bytes of content that were sent."""
        return sum(request.sent for request in self.requests)

    def add(self, path: str, data: bytes, **how: object) -> str:
        """Serve `data` and return its URL."""
        self.pages[path] = Page(data, **how)  # type: ignore[arg-type]
        return self.url + path


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_activate(self) -> None:
        super().server_activate()
        self.ours = WebServer(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing goes to stderr."""

    def do_GET(self) -> None:
        request = Request(self.path, dict(self.headers))
        self.server.ours.requests.append(request)
        page = self.server.ours.pages.get(urlsplit(self.path).path)
        self.close_connection = True
        if page is None or page.statuses:
            self._say(404 if page is None else page.statuses.pop(0))
        elif page.location:
            self._say(302, Location=page.location)
        else:
            self._give(page, request)

    def _say(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def _give(self, page: Page, request: Request) -> None:
        total = len(page.data) + page.extra
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if page.ranges else None
        start = int(wanted[1]) if wanted else 0
        start = start if page.part_start is None else page.part_start
        end = min(int(wanted[2]) + 1, total) if wanted and wanted[2] else total
        if wanted and start >= total:
            self._say(416)
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total if page.total else '*'}")
        if page.length:
            self.send_header("Content-Length", str(end - start))
        if page.etag:
            self.send_header("ETag", f'"{hashlib.sha256(page.data).hexdigest()[:16]}"')
        self.send_header("Connection", "close")
        self.end_headers()
        body = page.data[start:end][: page.break_after]
        try:
            for at in range(0, len(body), 1 << 14):
                time.sleep(page.pause_s)
                self.wfile.write(body[at : at + (1 << 14)])
                request.sent += len(body[at : at + (1 << 14)])
        except OSError:
            return  # the other side has heard enough


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A server on a free port, in threads, until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.ours
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
