"""That a file could not be read now says nothing of it: it is told, and tried again next time."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import av
import pytest
from after_hashing import after_hashing
from click.testing import CliRunner
from clipcache.cache.common.errors import NotReadNowError
from clipcache.cache.failure_log import FailureLog
from clipcache.cli import cli
from clipcache.extract import ExtractOptions, extract
from clipcache.extract.video import container
from clipcache.extract.video.container import open_video
from clipcache.extract.video.images import read_image
from clipcache.extract.workers import worker
from extract_runs import Cli
from video_files import make_video

pytestmark = pytest.mark.fault


def options(weights: Path, **more: Any) -> ExtractOptions:
    return ExtractOptions(model="tiny", weights=weights, device="cpu", num_workers=0, **more)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "disk" / "videos"
    folder.mkdir(parents=True)
    for name in "abcd":
        make_video(folder / f"{name}.mp4", frames=4, size=(64 + 2 * ord(name), 64))
    return folder


def test_a_disk_that_vanishes_stops_the_run_and_is_not_remembered(
    library: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        after_hashing(patch, lambda: library.parent.rename(tmp_path / "unplugged"))
        with pytest.raises(NotReadNowError, match=r"videos' is not there any more.*run the same command"):
            extract([library], tmp_path / "features", options(tiny_weights))
    assert not FailureLog(tmp_path / "features").read()
    (tmp_path / "unplugged").rename(library.parent)
    assert extract([library], tmp_path / "features", options(tiny_weights)).extracted == 4


def test_a_file_that_vanishes_fails_this_time_only(
    library: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (library / "b.mp4").read_bytes()
    with monkeypatch.context() as patch:
        after_hashing(patch, (library / "b.mp4").unlink)
        summary = extract([library], tmp_path / "features", options(tiny_weights))
    assert (summary.extracted, summary.failed) == (3, 1)
    assert not FailureLog(tmp_path / "features").read()
    (library / "b.mp4").write_bytes(content)
    assert extract([library], tmp_path / "features", options(tiny_weights)).extracted == 1


def test_a_file_that_is_overwritten_by_junk_is_not_remembered_under_its_old_hash(
    library: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (library / "b.mp4").read_bytes()
    with monkeypatch.context() as patch:
        after_hashing(patch, lambda: (library / "b.mp4").write_bytes(b"junk"))
        assert extract([library], tmp_path / "features", options(tiny_weights)).failed == 1
    assert not FailureLog(tmp_path / "features").read()
    (library / "b.mp4").write_bytes(content)
    assert extract([library], tmp_path / "features", options(tiny_weights)).extracted == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("readable", [0, 1500])
def test_an_error_of_the_disk_is_not_the_file_s(
    library: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, readable: int
) -> None:
    whole = container._MediaFile

    class Failing(whole):  # type: ignore[misc, valid-type]
        def read(self, size: int = -1) -> bytes:
            if self.tell() >= readable:
                raise OSError(number, os.strerror(number))
            return super().read(min(size, 500))

    with monkeypatch.context() as patch:
        patch.setattr(container, "_MediaFile", Failing)
        summary = extract([library], tmp_path / "features", options(tiny_weights))
    assert (summary.extracted, summary.failed) == (0, 4)
    assert not FailureLog(tmp_path / "features").read()
    assert extract([library], tmp_path / "features", options(tiny_weights)).extracted == 4


def test_a_worker_s_lack_of_memory_is_not_the_file_s(
    library: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_index", fail)
        assert extract([library], tmp_path / "features", options(tiny_weights)).failed == 4
    assert not FailureLog(tmp_path / "features").read()


def test_a_picture_that_the_disk_does_not_give_is_told_from_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fail)
        with pytest.raises(NotReadNowError, match=r"a\.png'.*Input/output error"):
            read_image(path)
    with pytest.raises(NotReadNowError, match="No such file"):
        read_image(tmp_path / "missing.png")


def test_the_log_survives_any_line(library: Path, tiny_weights: Path, tmp_path: Path) -> None:
    log = tmp_path / "features" / "failed.jsonl"
    log.parent.mkdir()
    log.write_bytes(b"[" * 100_000 + b"\n" + b'{"a": ' * 50_000 + b"\n\xff\xfe\0\n")
    assert extract([library], tmp_path / "features", options(tiny_weights)).extracted == 4


def test_failures_are_named_with_their_reasons(
    library: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (library / "junk.mp4").write_bytes(b"this is no video")
    shutil.copy(library / "a.mp4", library / "cut.mp4")
    with (library / "cut.mp4").open("r+b") as file:
        file.truncate((library / "a.mp4").stat().st_size - 40)
    run = Cli(tmp_path / "features", tiny_weights, monkeypatch, capsys)
    first = run(library)
    assert first.code == 1
    assert any("junk.mp4" in line for line in first.complaints)
    again = run(library)
    assert any("failed before" in line and "junk.mp4" in line for line in again.complaints)
    listed = CliRunner().invoke(cli, ["cache", "failures", "--cache", str(tmp_path / "features")])
    assert listed.exit_code == 0
    assert "junk.mp4" in listed.output
    assert "is not a video" in listed.output
    as_json = CliRunner().invoke(cli, ["cache", "failures", "--cache", str(tmp_path / "features"), "--json"])
    assert '"error": "MediaError"' in as_json.output
    empty = CliRunner().invoke(cli, ["cache", "failures", "--cache", str(tmp_path / "none")])
    assert empty.output == "Nothing failed.\n"


def test_a_lack_of_memory_when_a_file_is_opened_is_not_the_file_s(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_without_memory(*_: object, **__: object) -> object:
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", open_without_memory)
    with pytest.raises(NotReadNowError, match="Not enough memory to open"), open_video(library / "a.mp4"):
        pass
