"""Tars of videos: their members are inputs, whatever else and whatever harm is in them; nothing is unpacked."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import UsageError
from clipcache.extract.inputs import find_items
from extract_runs import Cli, read_failures
from remote_library import Library, Run, add, write_tar
from web_server import WebServer


def samples(library: Library) -> dict[str, bytes]:
    """A WebDataset: videos, each with a text and a label of the same key."""
    files: dict[str, bytes] = {}
    for name, data in library.videos.items():
        key = name.removesuffix(".mp4")
        files |= {f"{key}.json": b"{}", name: data, f"{key}.txt": b"a clip", f"{key}.jpg": b"\xff\xd8\xff"}
    return files


def names(*inputs: str | Path, sounds: bool = False) -> list[str]:
    return [item.name for item in find_items(inputs, sounds=sounds)]


FORMATS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    ".tar": lambda path, files: write_tar(path, files),
    ".tar.gz": lambda path, files: write_tar(path, files, "w:gz", compresslevel=1),
    ".tgz": lambda path, files: write_tar(path, files, "w:gz", format=tarfile.PAX_FORMAT),
    ".tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
    ".tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_members_are_what_they_are_as_files(suffix: str, library: Library, run: Run, tmp_path: Path) -> None:
    tar = FORMATS[suffix](tmp_path / f"shard{suffix}", samples(library))
    assert names(tar) == [f"{tar}/{name}" for name in library.videos]
    assert run(tar).extracted == 4
    library.assert_same(tmp_path / "cache")
    places = sorted(entry.attributes.source_path for entry in FeatureCache(tmp_path / "cache"))
    assert places == [f"{tar}/{name}" for name in library.videos]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_tar_on_a_server_is_read_by_members(
    suffix: str, ranges: bool, library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    tar = FORMATS[suffix](tmp_path / f"shard{suffix}", samples(library))
    url = server.add(f"/shard{suffix}", tar.read_bytes(), ranges=ranges)
    assert run(f"{url}?sig=1").extracted == 4
    library.assert_same(tmp_path / "cache")
    server.requests.clear()
    assert run(f"{url}?sig=2").cached == 4
    assert [request.headers["Range"] for request in server.requests] == ["bytes=0-0"]
    assert run(url, cache="other").extracted == 4
    if suffix == ".tar.gz" or not ranges:
        assert len(server.requests) <= 4, "it is read in its own order, in one request"


def test_a_broken_connection_does_not_break_a_compressed_tar(
    library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    tar = FORMATS[".tar.gz"](tmp_path / "shard.tar.gz", samples(library))
    url = server.add("/shard.tar.gz", tar.read_bytes(), break_after=3000)
    assert run(url).extracted == 4
    library.assert_same(tmp_path / "cache")


def test_a_copy_in_a_tar_is_the_same_entry(library: Library, run: Run, tmp_path: Path) -> None:
    for name, data in library.videos.items():
        (tmp_path / name).write_bytes(data)
    assert run(*(tmp_path / name for name in library.videos)).extracted == 4
    summary = run(write_tar(tmp_path / "shard.tar", samples(library)))
    assert (summary.extracted, summary.cached) == (0, 4)


def test_braces_and_globs_name_tars_and_folders_do_not(library: Library, clipcache: Cli, tmp_path: Path) -> None:
    for number, (name, data) in enumerate(library.videos.items()):
        write_tar(tmp_path / "shards" / f"{number:03}.tar", {name: data})
    expected = [f"{tmp_path}/shards/{number:03}.tar/clip{number}.mp4" for number in range(4)]
    for pattern in ("{000..003}.tar", "{000,001,002,003}.tar", "*.tar", "00*", "{000..001}.tar"):
        found = names(f"{tmp_path}/shards/{pattern}")
        assert found == expected[: 2 if pattern == "{000..001}.tar" else 4], pattern
    with pytest.raises(UsageError, match="No video and no image"):
        find_items([tmp_path / "shards"])
    outcome = clipcache(f"{tmp_path}/shards/{{000..009}}.tar")
    assert "4 extracted, 0 cached, 0 partial, 6 failed" in outcome.out
    assert "009.tar': No such file or directory" in outcome.err
    library.assert_same(clipcache.cache_dir)
    literal = write_tar(tmp_path / "{0..9}.tar", {"a.mp4": b"x"})
    assert names(literal) == [f"{literal}/a.mp4"]


def test_nothing_of_a_local_tar_is_read_twice(
    library: Library, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = write_tar(tmp_path / "shard.tar", samples(library))
    old = tar.stat().st_mtime - 60
    os.utime(tar, (old, old))
    assert run(tar).extracted == 4
    monkeypatch.setattr("clipcache.extract.remote.tars.Tar.copy", lambda *_: pytest.fail("it is known"))
    assert run(tar).cached == 4


def test_a_tar_that_changes_is_not_believed(
    library: Library, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipcache.extract.remote.tars import Tar

    tar = write_tar(tmp_path / "shard.tar", samples(library))
    original = Tar.copy

    def copy(self: Tar, member: Any, write: Any) -> None:
        if "clip2" in member.path:
            with tar.open("r+b") as file:
                file.seek(member.offset + 100)
                file.write(b"x" * 8)
        original(self, member, write)

    monkeypatch.setattr(Tar, "copy", copy)
    summary = run(tar, scratch_bytes=1)
    assert f"{tar}/clip2.mp4" in summary.failures
    assert summary.extracted + summary.failed == 4
    assert all("it changed while it was read" in sentence for sentence in summary.failures.values())
    assert read_failures(tmp_path / "cache") == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_of_a_truncated_tar_the_first_members_are_inputs(
    suffix: str, library: Library, run: Run, tmp_path: Path
) -> None:
    files = dict(library.videos)
    whole = FORMATS[suffix](tmp_path / f"whole{suffix}", files).read_bytes()
    tar = tmp_path / f"cut{suffix}"
    tar.write_bytes(whole[: len(whole) - 1200] if suffix != ".tar" else whole[: tar_end(files) - 1200])
    summary = run(tar)
    assert summary.extracted >= 1
    assert "it is damaged or cut short after" in summary.failures[str(tar)]
    assert len(summary.failures) == 1
    assert read_failures(tmp_path / "cache") == []


def tar_end(files: dict[str, bytes]) -> int:
    """Where the last member of a plain tar ends."""
    return sum(512 + -(-len(data) // 512) * 512 for data in files.values())


def test_a_tar_without_its_end_may_lack_members(library: Library, run: Run, tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "shard.tar", library.videos)
    tar.write_bytes(tar.read_bytes()[: tar_end(library.videos)])
    summary = run(tar)
    assert summary.extracted == 4
    assert "there is no end mark" in summary.failures[str(tar)]


def test_garbage_in_the_middle_is_named(library: Library, run: Run, tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "shard.tar", library.videos)
    data = bytearray(tar.read_bytes())
    second = tar_end({"clip0.mp4": library.videos["clip0.mp4"]})
    data[second : second + 512] = b"\xaa" * 512
    tar.write_bytes(data)
    summary = run(tar)
    assert summary.extracted == 1
    assert "after 1 of its files" in summary.failures[str(tar)]


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"no tar" * 1000, gzip.compress(b"no tar" * 1000), b"\x1f\x8b\0"])
def test_what_is_no_tar_is_one_failure(data: bytes, tmp_path: Path, library: Library, run: Run) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(data)
    good = write_tar(tmp_path / "good.tar", library.videos)
    summary = run(bad, good)
    assert (summary.extracted, list(summary.failures)) == (4, [str(bad)])


def test_hostile_members_harm_nothing(library: Library, clipcache: Cli, scratch: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(library.videos["clip3.mp4"])
    tar = tmp_path / "inside" / "hostile.tar"
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as writer:
        add(writer, "../../escape.mp4", library.videos["clip0.mp4"])
        add(writer, f"{tmp_path}/absolute.mp4", library.videos["clip1.mp4"])
        add(writer, "link.mp4", type=tarfile.SYMTYPE, linkname=str(outside))
        add(writer, "hard.mp4", type=tarfile.LNKTYPE, linkname=str(outside))
        add(writer, "pipe.mp4", type=tarfile.FIFOTYPE)
        add(writer, "device.mp4", type=tarfile.CHRTYPE)
        add(writer, "folder.mp4", type=tarfile.DIRTYPE)
        add(writer, ".hidden.mp4", b"x")
        add(writer, "a\nb\x1b[31m.mp4", library.videos["clip2.mp4"])
    before = {path for path in tmp_path.rglob("*") if clipcache.cache_dir not in path.parents}
    outcome = clipcache(tar, "--scratch", scratch, "-v")
    assert "3 extracted, 0 cached, 0 partial, 0 failed" in outcome.out
    after = {path for path in tmp_path.rglob("*") if clipcache.cache_dir not in path.parents}
    assert after - before == {clipcache.cache_dir}
    assert "\x1b" not in outcome.err
    places = {entry.attributes.source_path for entry in clipcache.entries.values()}
    assert f"{tar}/escape.mp4" in places
    assert f"{tar}{tmp_path}/absolute.mp4" in places


@pytest.mark.parametrize("size", [1 << 40, 8**11 - 1])
def test_sizes_that_lie_are_not_believed(size: int, library: Library, run: Run, tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "shard.tar", {"clip0.mp4": library.videos["clip0.mp4"], "liar.mp4": b"x"})
    data = bytearray(tar.read_bytes())
    at = tar_end({"clip0.mp4": library.videos["clip0.mp4"]})
    info = tarfile.TarInfo("liar.mp4")
    info.size = size
    data[at : at + 512] = info.tobuf(tarfile.GNU_FORMAT)
    tar.write_bytes(data)
    summary = run(tar)
    assert (summary.extracted, list(summary.failures)) == (1, [str(tar)])


def test_a_header_without_end_is_not_read_into_memory(library: Library, run: Run, tmp_path: Path) -> None:
    """A compressed tar whose extended header claims a gigabyte, and has it."""
    tar = tmp_path / "bomb.tar.gz"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    first = write_tar(tmp_path / "first.tar", {"clip0.mp4": library.videos["clip0.mp4"]}).read_bytes()
    with gzip.open(tar, "wb", compresslevel=1) as file:
        file.write(first[: tar_end({"": library.videos["clip0.mp4"]})])
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(1 << 20))
    summary = run(tar)
    assert summary.extracted == 1
    assert "a header has no end" in summary.failures[str(tar)]


def test_a_sparse_member_is_told(library: Library, run: Run, tmp_path: Path) -> None:
    tar = tmp_path / "shard.tar"
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as writer:
        add(writer, "clip0.mp4", library.videos["clip0.mp4"])
        pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s.mp4", "GNU.sparse.realsize": "9"}
        add(writer, "sparse.mp4", b"1\n0\n1\n" + bytes(506) + b"x", pax_headers=pax)
    summary = run(tar)
    assert summary.extracted == 1
    assert "one is a sparse file" in summary.failures[str(tar)]


def test_sound_and_odd_names_in_tars(tmp_path: Path) -> None:
    files = {"a.mp4": b"1", "a.flac": b"2", "a.cls": b"3", "b/c.d.webm": b"4", "b/c.d.txt": b"5", "A.MKV": b"6"}
    tar = write_tar(tmp_path / "t.TAR", files)
    assert names(tar) == [f"{tar}/{name}" for name in ("a.mp4", "b/c.d.webm", "A.MKV")]
    assert names(tar, sounds=True) == [f"{tar}/{name}" for name in ("a.mp4", "a.flac", "b/c.d.webm", "A.MKV")]


def test_two_members_of_one_name_are_two_inputs(library: Library, run: Run, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for data in library.videos.values():
            add(tar, "clip.mp4", data)
    assert run(tmp_path / "shard.tar").extracted == 4


def test_headers_of_headers_are_one_failure(library: Library, run: Run, tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "shard.tar", {"clip0.mp4": library.videos["clip0.mp4"]})
    info = tarfile.TarInfo("name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    longer = info.tobuf(tarfile.GNU_FORMAT) + b"name".ljust(512, b"\0")
    at = tar_end({"": library.videos["clip0.mp4"]})
    tar.write_bytes(tar.read_bytes()[:at] + longer * 2000 + bytes(1024))
    summary = run(tar)
    assert (summary.extracted, list(summary.failures)) == (1, [str(tar)])


def test_a_negative_size_does_not_lead_back(tmp_path: Path) -> None:
    back = bytearray(tarfile.TarInfo("back.mp4").tobuf(tarfile.GNU_FORMAT))
    back[124:136] = (-1024).to_bytes(12, "big", signed=True)
    back[148:156] = b" " * 8
    back[148:156] = b"%06o\0 " % sum(back)
    first, second = (tarfile.TarInfo(f"{number}.mp4").tobuf(tarfile.GNU_FORMAT) for number in range(2))
    (tmp_path / "shard.tar").write_bytes(first + second + back + bytes(1024))
    found = names(tmp_path / "shard.tar")
    assert found == [f"{tmp_path}/shard.tar{member}" for member in ("/0.mp4", "/1.mp4", "")]


def test_the_place_of_a_tar_in_a_list_is_as_the_list_has_it(library: Library, tmp_path: Path) -> None:
    for host in ("here", "there"):
        write_tar(tmp_path / host / "shards" / "0.tar", {"clip0.mp4": b"x"})
        (tmp_path / host / "list.txt").write_text("./shards/0.tar\n")
    places = [find_items([], tmp_path / host / "list.txt")[0].place for host in ("here", "there")]
    assert places == ["shards/0.tar/clip0.mp4"] * 2


def test_question_and_number_signs_in_a_tar_elsewhere_are_parts_of_names(
    library: Library, server: WebServer, run: Run, tmp_path: Path
) -> None:
    videos = enumerate(library.videos.values())
    tar = write_tar(tmp_path / "0.tar", {f"clip#{number}?.mp4": data for number, data in videos})
    url = server.add("/0.tar", tar.read_bytes())
    assert run(url).extracted == 4
    paths = sorted(entry.attributes.source_path for entry in FeatureCache(tmp_path / "cache"))
    assert paths == [f"{url}/clip%23{number}%3F.mp4" for number in range(4)]


def test_a_zero_byte_in_a_name_does_no_harm(library: Library, run: Run, clipcache: Cli, tmp_path: Path) -> None:
    tar = tmp_path / "shard.tar"
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as writer:
        add(writer, "clip.mp4", library.videos["clip0.mp4"], pax_headers={"path": "a\0b.mp4"})
    outcome = clipcache(tar, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert run(tar).extracted == 1
