"""How far runs over URLs and tars are: by shards, with failures, without fetching anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from clipcache.cli import cli
from clipcache.extract.cluster.shards import Shard, as_ranges, number_of
from clipcache.extract.inputs import find_items
from remote_library import Library, Run, write_tar
from web_server import WebServer

HIDDEN = "hunter2"


def status(cache: Path, *words: Any) -> Any:
    result = CliRunner().invoke(cli, ["cache", "status", *map(str, words), "--cache", str(cache), "--json"])
    assert result.exit_code == 0, result.stderr
    assert HIDDEN not in result.output
    return json.loads(result.stdout)


def test_shards_of_urls_and_tars(library: Library, server: WebServer, run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data = list(library.videos.values())
    server.add("/bad.mp4", b"\0" * 100)
    server.add("/0.mp4", data[0])
    urls = [f"http://me:{HIDDEN}@{server.place}/{name}.mp4?sig={HIDDEN}" for name in ("0", "bad", "gone")]
    tar = write_tar(tmp_path / "shard.tar", {f"{number}.mp4": one for number, one in enumerate(data[1:])})
    inputs = [*urls, tar]
    numbers = {item.name: number_of(item.place, 2) for item in find_items(inputs) if "gone" not in item.name}
    assert len(numbers) == 5
    before = status(cache, *inputs, "--shards", 2)
    assert (before["outstanding"], before["unreadable"], before["array"]) == (5, 1, as_ranges(numbers.values()))
    for shard, left in ((0, {1} & {*numbers.values()}), (1, set())):
        if shard in numbers.values():
            run(*inputs, shard=Shard(shard, 2))
        server.requests.clear()
        after = status(cache, *inputs, "--shards", 2)
        assert after["array"] == as_ranges(left)
        assert {numbers[name] for name in after["outstanding_paths"]} == left
        assert {request.sent for request in server.requests} <= {0, 1}, "nothing is fetched to know it"
    assert (after["done"], after["failed"], after["unreadable"], after["array"]) == (4, 1, 1, "")
    why = {one["path"]: one["why"] for one in after["problems"]}
    assert list(why) == [f"{server.url}/bad.mp4", f"{server.url}/gone.mp4"]
    assert "scratch" not in why[f"{server.url}/bad.mp4"]
