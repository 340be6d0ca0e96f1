"""Videos behind URLs: fetched whole or not at all, whatever the server does, and never fetched twice."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import UsageError
from clipcache.cache.common.hashing import memo_path
from clipcache.extract.inputs import find_items
from clipcache.extract.remote import web
from clipcache.extract.remote.memory import Memory
from extract_runs import Cli, features_of, read_failures
from remote_library import Library, Run
from web_server import WebServer, web_server

HIDDEN = "hunter2"


def serve(server: WebServer, library: Library, **how: object) -> list[str]:
    return [server.add(f"/videos/{name}", data, **how) for name, data in library.videos.items()]


def test_features_are_those_of_files_and_nothing_is_fetched_twice(
    library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    urls = serve(server, library)
    assert run(*urls).extracted == 4
    library.assert_same(tmp_path / "cache")
    [entry] = [one for one in FeatureCache(tmp_path / "cache") if one.video_name == "clip0.mp4"]
    assert entry.attributes.source_path == f"{server.url}/videos/clip0.mp4"
    assert server.sent == sum(map(len, library.videos.values())) + 4, "and a byte each to ask what there is"
    server.requests.clear()
    assert run(*urls).cached == 4
    assert [(request.sent, request.headers["Range"]) for request in server.requests] == [(1, "bytes=0-0")] * 4


def test_equal_content_is_one_entry(library: Library, server: WebServer, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "local.mp4"
    path.write_bytes(library.videos["clip0.mp4"])
    [url, *_] = serve(server, library)
    copy = server.add("/copy.mp4", library.videos["clip0.mp4"])
    summary = run(path, url, copy)
    assert (summary.extracted, summary.cached) == (1, 2)


@pytest.mark.parametrize("etag", [True, False])
def test_a_broken_connection_is_taken_up_where_it_broke(
    etag: bool, library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    data = library.videos["clip0.mp4"]
    url = server.add("/clip0.mp4", data, etag=etag, break_after=len(data) // 3)
    assert run(url).extracted == 1
    library.assert_same(tmp_path / "cache", "clip0.mp4")
    assert len(server.requests) > 3
    assert server.sent == len(data) + 1, "no byte was sent twice"


def test_without_ranges_a_broken_connection_begins_again(
    library: Library, server: WebServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = library.videos["clip0.mp4"]
    url = server.add("/clip0.mp4", data, ranges=False)
    page = server.pages["/clip0.mp4"]
    lengths = itertools.chain([None, 100, 1000], itertools.repeat(None))  # the first is asked what there is

    def ask(self: web.WebBlob, span: str | None) -> object:
        page.break_after = next(lengths)
        return original(self, span)

    original = web.WebBlob._ask
    monkeypatch.setattr(web.WebBlob, "_ask", ask)
    assert run(url).extracted == 1
    library.assert_same(tmp_path / "cache", "clip0.mp4")
    assert len(server.requests) == 4


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("total", [True, False])
def test_a_length_that_lies_is_an_error_and_nothing_is_cached(
    ranges: bool, total: bool, library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    [good, *_] = serve(server, library)
    url = server.add("/lies.mp4", library.videos["clip1.mp4"], extra=1000, ranges=ranges, total=total)
    summary = run(good, url)
    assert (summary.extracted, summary.failed) == (1, 1)
    size = len(library.videos["clip1.mp4"])
    assert f"it ended after {size} of {size + 1000} bytes" in summary.failures[url]
    assert read_failures(tmp_path / "cache") == []
    server.pages["/lies.mp4"].extra = 0
    assert run(good, url).extracted == 1
    assert sorted(features_of(tmp_path / "cache")) == ["clip0.mp4", "lies.mp4"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (404, "it is not there (HTTP 404)."),
        (403, "access is denied (HTTP 403); check the credentials."),
        (503, "the server answers HTTP 503."),
    ],
)
def test_what_the_server_refuses_is_told_and_not_remembered(
    code: int, sentence: str, library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    [good, *_] = serve(server, library)
    url = server.add("/refused.mp4", b"", statuses=[code] * 20)
    summary = run(good, url)
    assert summary.failures == {url: f"Cannot read '{url}': {sentence}"}
    assert read_failures(tmp_path / "cache") == []
    with pytest.raises(UsageError, match=str(code)):
        run(url, cache="other")


def test_passing_errors_pass(library: Library, server: WebServer, run: Run) -> None:
    [url, *_] = serve(server, library)
    server.pages["/videos/clip0.mp4"].statuses = [500, 429, 503]
    assert run(url).extracted == 1


def test_a_server_that_falls_silent_is_given_up(
    library: Library, server: WebServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.1)
    good, url, *_ = serve(server, library)
    server.pages["/videos/clip1.mp4"].pause_s = 1.0
    assert run(good, url).failures == {url: f"Cannot read '{url}': no answer came in time."}


def test_a_slow_server_is_waited_for(library: Library, server: WebServer, run: Run, tmp_path: Path) -> None:
    assert run(*serve(server, library, pause_s=0.1)).extracted == 4
    library.assert_same(tmp_path / "cache")


def test_no_server_is_an_error(run: Run) -> None:
    with pytest.raises(UsageError, match="no connection to the server"):
        run("http://127.0.0.1:9/clip.mp4")


@pytest.mark.parametrize("how", [{"etag": False}, {"length": False, "ranges": False}])
def test_what_has_no_sign_of_change_is_fetched_again(
    how: dict[str, bool], library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    [url, *_] = serve(server, library, **how)
    assert run(url).extracted == 1
    before = server.sent
    assert run(url).cached == 1
    assert server.sent == 2 * before
    library.assert_same(tmp_path / "cache", "clip0.mp4")


def test_redirections_are_followed_and_credentials_are_not_passed_on(
    library: Library, server: WebServer, run: Run
) -> None:
    with web_server() as other:
        there = other.add("/there.mp4", library.videos["clip0.mp4"])
        server.add("/here.mp4", b"", location=there.replace("127.0.0.1", "localhost"))
        assert run(f"http://me:{HIDDEN}@{server.place}/here.mp4").extracted == 1
        assert all("Authorization" in request.headers for request in server.requests)
        assert not any("Authorization" in request.headers for request in other.requests)
    server.requests.clear()
    server.add("/same.mp4", b"", location=f"{server.url}/there.mp4")
    server.add("/there.mp4", library.videos["clip1.mp4"])
    assert run(f"http://me:{HIDDEN}@{server.place}/same.mp4").extracted == 1
    assert all("Authorization" in request.headers for request in server.requests)
    server.add("/bad.mp4", b"", location="ftp://127.0.0.1/x")
    with pytest.raises(UsageError, match="redirected to what is not a web server"):
        run(f"{server.url}/bad.mp4")


def test_credentials_are_in_no_file_and_on_no_stream(
    library: Library, server: WebServer, clipcache: Cli, scratch: Path, tmp_path: Path
) -> None:
    for url in serve(server, library)[:2]:
        server.pages[url.removeprefix(server.url)].ranges = "clip1" in url
    server.add("/videos/bad.mp4", b"\0" * 100)
    server.add("/videos/broken.mp4", b"\0" * 100, extra=10)
    urls = [
        f"http://me:{HIDDEN}@{server.place}/videos/{name}.mp4?X-Amz-Signature={HIDDEN}&id={name}"
        for name in ("clip0", "clip1", "bad", "broken", "missing")
    ]
    said = []
    for words in (["-v"], ["--debug"], ["--json"], ["--dry-run"], ["--dry-run", "--json"], ["--retry-failed"]):
        outcome = clipcache(*urls, "--scratch", scratch, *words)
        said += [outcome.out, outcome.err]
    assert any(f"X-Amz-Signature={HIDDEN}&id=clip0" in request.path for request in server.requests)
    assert {request.headers["Authorization"] for request in server.requests} == {"Basic bWU6aHVudGVyMg=="}
    [failure] = {failure["path"] for failure in clipcache.failures}
    assert failure == f"{server.url}/videos/bad.mp4"
    files = [path for folder in (tmp_path, memo_path().parent) for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 4
    for secret in (HIDDEN, "bWU6aHVudGVyMg", "X-Amz"):
        assert not any(secret in text for text in said), said
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert clipcache.entries["clip0.mp4"].attributes.source_path == f"{server.url}/videos/clip0.mp4"


def test_a_signature_is_not_what_is_asked_for_but_the_rest_is(library: Library, server: WebServer, run: Run) -> None:
    [url, *_] = serve(server, library)
    assert run(f"{url}?id=1&sig=a").extracted == 1
    server.requests.clear()
    assert run(f"{url}?sig=b&id=1").cached == 1
    assert server.sent == 1
    assert run(f"{url}?sig=b&id=2", f"{url}?id=1").cached == 2
    assert server.sent == 3 + len(library.videos["clip0.mp4"])


def test_a_dry_run_fetches_nothing(library: Library, server: WebServer, clipcache: Cli, run: Run) -> None:
    urls = serve(server, library)
    assert run(urls[0]).extracted == 1
    server.requests.clear()
    outcome = clipcache(*urls, "--dry-run")
    assert outcome.out.splitlines()[0] == f"cached       '{urls[0]}'"
    assert outcome.out.splitlines()[1] == f"fetch        '{urls[1]}'"
    assert outcome.out.splitlines()[-1] == "1 cached, 3 fetch"
    assert server.sent == 4


def test_a_list_may_name_urls(library: Library, server: WebServer, clipcache: Cli, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,id\n" + "".join(f"{url},1\n" for url in serve(server, library)))
    assert "4 extracted" in clipcache("--list", path).out
    library.assert_same(clipcache.cache_dir)


def test_braces_stand_for_names(library: Library, server: WebServer, run: Run, tmp_path: Path) -> None:
    serve(server, library)
    assert run(f"{server.url}/videos/clip{{0..3}}.mp4").extracted == 4
    library.assert_same(tmp_path / "cache")
    with pytest.raises(UsageError, match="more than a million"):
        run(f"{server.url}/videos/clip{{0..9999999}}.mp4")


def test_content_that_changed_under_the_same_sign_counts_as_it_is(
    library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    url, other, *_ = serve(server, library)
    blob = web.WebBlob(url)
    Memory().remember_sha256(blob.key, blob.status().stamp, "0" * 64)
    assert run(url, other).extracted == 2
    library.assert_same(tmp_path / "cache", "clip0.mp4", "clip1.mp4")
    assert run(url, other).cached == 2


def test_another_part_than_was_asked_for_is_not_taken(
    library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    """A server that begins at the first byte again, and says so, where a broken connection is to be taken up."""
    data = library.videos["clip1.mp4"]
    [good, *_] = serve(server, library)
    url = server.add("/again.mp4", data, break_after=len(data) // 2, part_start=0)
    summary = run(good, url)
    assert (summary.extracted, summary.failed) == (1, 1)
    assert "the server gives another part than it is asked for" in summary.failures[url]


@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2", "-1", ""])
def test_lengths_that_are_none_are_not_known(length: str) -> None:
    whole: Any = SimpleNamespace(status=200, headers={"Content-Length": length, "ETag": "x"})
    part: Any = SimpleNamespace(status=206, headers={"Content-Range": f"bytes 0-0/{length}", "ETag": "x"})
    assert web._status_of(whole) == web._status_of(part) == web.Status(None, None)


@pytest.mark.parametrize("place", ["[::1", "ho\u2100st", "ho st"])
def test_a_url_that_is_not_valid_is_one_failure(place: str, library: Library, server: WebServer, run: Run) -> None:
    [good, *_] = serve(server, library)
    summary = run(good, f"http://me:{HIDDEN}@{place}/clip.mp4")
    assert summary.extracted == 1
    assert summary.failures == {
        f"http://{place}/clip.mp4": f"Cannot read 'http://{place}/clip.mp4': the URL is not valid."
    }


def test_of_one_path_each_query_has_a_place_of_its_own_without_credentials() -> None:
    urls = [f"https://me:{HIDDEN}@host/get?id={number}&X-Amz-Signature={HIDDEN}" for number in range(8)]
    places = [item.place for item in find_items(urls)]
    assert len(set(places)) == 8
    assert not any(HIDDEN in place for place in places)


def test_errors_about_the_inputs_show_no_credentials(tmp_path: Path) -> None:
    url = f"https://me:{HIDDEN}@host/a.mp4?sig={HIDDEN}"
    (tmp_path / "list.csv").write_text(f"{url}\n")
    for wrong in (lambda: find_items(url), lambda: find_items([], tmp_path / "list.csv")):
        with pytest.raises(UsageError, match=r"https://host/a\.mp4") as caught:
            wrong()
        assert HIDDEN not in str(caught.value)
