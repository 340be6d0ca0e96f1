"""`clipcache extract` on what people really give it: one sentence, the right exit code, and the other videos done."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import socket
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from after_hashing import after_hashing
from clipcache import cli
from clipcache.cache import ClipcacheError, UsageError
from clipcache.extract import ExtractOptions, engine, extract, inputs, pipeline
from clipcache.extract.workers import worker
from extract_runs import Cli, assert_sound, extract_words, start_extract
from image_files import HEIC_HEAD, hide_heic, needs_avif, needs_heic, two_colours
from media import BAD, BadFile, BadInput
from PIL import Image
from tiny_models import write_tiny_weights
from video_files import VideoTruth, make_video

pytestmark = pytest.mark.once

CASES = [pytest.param(case, id=case.name) for case in BAD]


@pytest.fixture
def good(tmp_path: Path) -> VideoTruth:
    (tmp_path / "good").mkdir()
    return make_video(tmp_path / "good" / "good.mp4", frames=5, size=(96, 64))


def build(case: BadInput, folder: Path) -> BadFile:
    folder.mkdir(parents=True)
    try:
        return case.build(folder)
    except OSError as error:
        pytest.skip(f"this file system does not take such a name: {error}")


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a run that loads a model, and so decodes, is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded, so something is encoded")

    monkeypatch.setattr(engine, "FrameEncoder", refuse)


# --- bad videos -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].expect == "refused"])
def test_refused_video_fails_alone(case: BadInput, clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    bad = build(case, tmp_path / "bad").path
    outcome = clipcache(bad, good.path)
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert list(clipcache.entries) == ["good.mp4"]
    (failure,) = clipcache.failures
    assert failure["path"] == str(bad)
    assert failure["sha256"] == hashlib.sha256(bad.read_bytes()).hexdigest()
    assert failure["error"] == "MediaError"
    assert failure["model_dir"].startswith("tiny-")
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(failure["time"])).total_seconds()) < 60
    assert outcome.complaints == [f"clipcache: {failure['sentence']}"]
    assert failure["sentence"].count("\n") == 0
    assert bad.name in failure["sentence"]
    assert failure["sentence"].endswith(".")
    assert "1 extracted, 0 cached, 0 partial, 1 failed" in outcome.out


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].expect in ("partial", "prefix")])
def test_damaged_video_is_cached_as_far_as_it_goes(case: BadInput, clipcache: Cli, tmp_path: Path) -> None:
    bad = build(case, tmp_path / "bad")
    outcome = clipcache("-v", bad.path)
    assert outcome.code == 0
    (entry,) = clipcache.entries.values()
    assert bad.truth is not None
    times = np.array(bad.truth.timestamps_ms)
    # Relative to the first: a fragmented MP4 has no edit list to take back the delay of its B-frames.
    shown_ms = entry.timestamps_ms - entry.timestamps_ms[0]
    np.testing.assert_allclose(shown_ms, times[entry.frame_index] - times[entry.frame_index[0]], rtol=0, atol=1.0)
    assert 40 <= len(entry) < 96
    if case.expect == "partial":
        assert not entry.complete
        counted = case.name not in ("cut_mkv", "cut_fragmented")  # the others know how many frames they had
        assert entry.frames_expected == 96 if counted else entry.frames_expected > len(entry)
        assert entry.frames_decoded == len(entry)
        assert "1 partial, 0 failed" in outcome.out
        assert f"{len(entry)} frames of {entry.frames_expected}" in outcome.err
    else:
        # Of the packets before the cut, the last may have lost its end, and others may be shown after it.
        assert len(entry) - 1 <= entry.frame_index[-1] <= len(entry)
    assert clipcache.failures == []
    again = clipcache(bad.path)
    assert (again.code, "0 extracted, 1 cached" in again.out) == (0, True)


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].expect == "whole"])
def test_odd_name_is_no_obstacle(case: BadInput, clipcache: Cli, tmp_path: Path) -> None:
    odd = build(case, tmp_path / "odd").path
    outcome = clipcache("-v", "--", odd)
    assert outcome.code == 0, outcome.err
    (entry,) = clipcache.entries.values()
    assert (len(entry), entry.complete) == (3, True)
    name = os.fsencode(odd.name)
    # What is not UTF-8 is stored escaped; everything else as it is.
    assert entry.video_name == (odd.name if case.name != "not_utf8" else name.decode("utf-8", "backslashreplace"))
    assert "3 frames" in outcome.err
    assert sum(line.startswith("'") for line in outcome.err.splitlines()) == 1  # a name with a line break too


def test_all_bad_at_once_in_worker_processes(clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    """Bad files share workers with good ones, and the good ones come out the same."""
    found = [(case, build(case, tmp_path / "bad" / case.name).path) for case in BAD if case.expect != "whole"]
    outcome = clipcache(*(path for _, path in found), good.path, "--num-workers", "2", "--json")
    summary = json.loads(outcome.out)
    refused = [str(path) for case, path in found if case.expect == "refused"]
    assert outcome.code == 1
    assert sorted(summary["failures"]) == sorted(refused)
    assert summary["extracted"] == len(found) - len(refused) + 1
    assert sorted(failure["path"] for failure in clipcache.failures) == sorted(refused)
    assert len(clipcache.entries["good.mp4"]) == 5
    assert_sound(clipcache.cache_dir)


# --- failures are remembered ----------------------------------------------------------------------------


def test_failed_video_is_not_tried_again(
    clipcache: Cli, good: VideoTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    clipcache(bad, good.path)
    with monkeypatch.context() as patch:
        no_model(patch)
        moved = bad.rename(tmp_path / "moved.mp4")
        outcome = clipcache(moved, good.path)
    assert outcome.code == 1
    assert "1 cached, 0 partial, 0 failed, 1 failed before (--retry-failed tries them again)" in outcome.out
    assert len(clipcache.failures) == 1
    outcome = clipcache("--retry-failed", moved, good.path)
    assert (outcome.code, len(outcome.complaints), len(clipcache.failures)) == (1, 1, 2)


def test_failed_video_that_changed_is_tried_again(clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_text("no video")
    assert clipcache(video).code == 1
    shutil.copy(good.path, video)
    outcome = clipcache(video)
    assert (outcome.code, list(clipcache.entries)) == (0, ["video.mp4"])


def test_failure_of_another_model_is_no_failure(clipcache: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    clipcache(bad)
    other = write_tiny_weights(tmp_path / "other.safetensors", seed=1)
    outcome = clipcache(bad, "--weights", other)
    assert "1 failed\n" in outcome.out
    assert len({failure["model_dir"] for failure in clipcache.failures}) == 2


def test_retry_that_succeeds_forgets_the_failure(
    clipcache: Cli, good: VideoTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hopeless = tmp_path / "hopeless.mp4"
    hopeless.write_text("no video")

    def fail(path: Path, beat: object) -> None:
        raise ValueError("the decoder has a bad day")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_index", fail)
        outcome = clipcache(good.path, hopeless)
    assert outcome.code == 1
    assert [failure["error"] for failure in clipcache.failures] == ["ValueError", "ValueError"]
    assert all("bad day" in failure["sentence"] for failure in clipcache.failures)
    outcome = clipcache("--retry-failed", good.path, hopeless)
    assert list(clipcache.entries) == ["good.mp4"]
    assert {failure["path"] for failure in clipcache.failures} == {str(hopeless)}


# --- nothing there, or not to be read -------------------------------------------------------------------


def test_missing_path_fails_alone(clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    outcome = clipcache(tmp_path / "nowhere.mp4", good.path)
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert "nowhere.mp4': No such file or directory" in outcome.complaints[0]
    assert list(clipcache.entries) == ["good.mp4"]
    assert clipcache.failures == []  # that it is not there now says nothing of it
    shutil.copy(good.path, tmp_path / "nowhere.mp4")
    assert clipcache(tmp_path / "nowhere.mp4").code == 0


def test_missing_path_alone_is_wrong_usage(clipcache: Cli, tmp_path: Path) -> None:
    outcome = clipcache(tmp_path / "nowhere.mp4")
    assert (outcome.code, len(outcome.complaints), clipcache.failures) == (2, 1, [])
    assert "nowhere.mp4': No such file or directory" in outcome.complaints[0]


def test_missing_path_is_said_each_time_and_not_remembered(clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    for _ in range(3):
        outcome = clipcache(tmp_path / "nowhere.mp4", good.path)
        assert (outcome.code, len(outcome.complaints)) == (1, 1)
    assert clipcache.failures == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name at least one"),
        (["empty"], "No video and no image"),
        (["nothing/*.mp4"], "No video and no image"),
        ([""], "empty"),
        (["--list", "nolist.txt"], "Cannot read the list"),
        (["--list", "columns.csv"], "no column named path"),
        (["video.mp4", "--fps", "0"], "fps"),
        (["video.mp4", "--every", "0"], "every"),
        (["video.mp4", "--fps", "1", "--every", "2"], "not by both"),
        (["video.mp4", "--num-workers", "-1"], "num-workers"),
        (["video.mp4", "--batch-size", "0"], "batch-size"),
        (["video.mp4", "--decoder", "magic"], "magic"),
        (["video.mp4", "--device", "toaster"], "toaster"),
        (["video.mp4", "--precision", "fp16"], "fp16"),
        (["video.mp4", "--limit-memory", "lots"], "'lots' is not a size"),
        (["video.mp4", "--limit-memory", "1MB", "--num-workers", "1"], "--limit-memory is too low"),
    ],
    ids=lambda value: "-".join(value).strip("-").replace("/", "") or "nothing" if isinstance(value, list) else "",
)
def test_wrong_usage_has_exit_code_2_and_writes_nothing(
    words: list[str], sentence: str, clipcache: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "empty").mkdir(parents=True)
    (tmp_path / "here" / "empty" / "notes.txt").write_text("nothing to see")
    (tmp_path / "here" / "columns.csv").write_text("name,size\na.mp4,3\n")
    make_video(tmp_path / "here" / "video.mp4", frames=1, size=(64, 48))
    monkeypatch.chdir(tmp_path / "here")
    outcome = clipcache(*words)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.out == ""
    assert clipcache.entries == {}
    assert clipcache.failures == []


def test_list_that_is_no_text_fails_in_one_sentence(clipcache: Cli, good: VideoTruth) -> None:
    """`--list video.mp4` for `video.mp4`."""
    outcome = clipcache("--list", good.path)
    assert outcome.code in (1, 2)
    assert clipcache.entries == {}


@pytest.mark.parametrize("suffix", [".mp4", ".png", ""])
@pytest.mark.timeout(30)
def test_named_pipe_does_not_block_the_run(clipcache: Cli, good: VideoTruth, suffix: str) -> None:
    os.mkfifo(good.path.parent / f"pipe{suffix}")
    outcome = clipcache(good.path.parent)
    assert list(clipcache.entries) == ["good.mp4"]
    assert outcome.code == (1 if suffix == ".mp4" else 0)


@pytest.mark.timeout(30)
def test_device_is_not_read_to_its_end(clipcache: Cli, good: VideoTruth) -> None:
    outcome = clipcache("/dev/zero", good.path)
    assert (outcome.code, len(outcome.complaints), list(clipcache.entries)) == (1, 1, ["good.mp4"])
    assert "'/dev/zero'" in outcome.complaints[0]


def test_unreadable_folder_fails_alone(clipcache: Cli, good: VideoTruth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may list every folder, so the operating system's answer is made up."""
    locked = good.path.parent / "locked"
    locked.mkdir()
    real_scandir, real_listdir = os.scandir, os.listdir

    def refuse(path: Any) -> None:
        if os.fspath(path) == str(locked):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(locked))

    def scandir(path: Any = ".") -> Any:
        refuse(path)
        return real_scandir(path)

    def listdir(path: Any = ".") -> Any:
        refuse(path)
        return real_listdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        patch.setattr(os, "listdir", listdir)
        outcome = clipcache(good.path.parent)
    assert outcome.code == 1
    assert list(clipcache.entries) == ["good.mp4"]
    assert len(outcome.complaints) == 1
    assert "locked" in outcome.complaints[0]
    assert "Permission denied" in outcome.complaints[0]


def test_unreadable_file_fails_alone(
    clipcache: Cli, good: VideoTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.mp4"
    shutil.copy(good.path, secret)
    real_open = Path.open

    def open_path(self: Path, *arguments: Any, **named: Any) -> Any:
        if self == secret:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real_open(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", open_path)
    outcome = clipcache(secret, good.path)
    assert (outcome.code, list(clipcache.entries)) == (1, ["good.mp4"])
    assert "secret.mp4" in outcome.complaints[0]
    assert "Permission denied" in outcome.complaints[0]


def test_video_that_vanishes_after_hashing_fails_alone(
    clipcache: Cli, good: VideoTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone.mp4"
    make_video(gone, frames=2, size=(64, 48))
    after_hashing(monkeypatch, gone.unlink)
    outcome = clipcache(gone, good.path)
    assert (outcome.code, list(clipcache.entries)) == (1, ["good.mp4"])
    assert "No such file" in outcome.complaints[0]


# --- images ---------------------------------------------------------------------------------------------


def write_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"frame{number}.png" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40, 30), (20 * number, 0, 100)).save(path)
    return paths


@pytest.mark.parametrize("damaged", [0, 4, 11])
def test_damaged_image_is_left_out_of_its_folder(
    damaged: int, clipcache: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_IMAGES_PER_TASK", 11)  # the last one is alone in its task
    paths = write_images(tmp_path / "burst", 12)
    paths[damaged].write_bytes(paths[damaged].read_bytes()[:40])
    outcome = clipcache(tmp_path / "burst")
    assert (outcome.code, clipcache.failures) == (0, [])
    (entry,) = clipcache.entries.values()
    assert (entry.complete, entry.frames_expected, entry.frames_decoded) == (False, 12, 11)
    assert entry.frame_names == [path.name for path in paths if path != paths[damaged]]
    assert list(entry.frame_index) == [row for row in range(12) if row != damaged]
    assert (entry.width, entry.height) == (40, 30)


def test_damaged_image_alone_is_a_failure(clipcache: Cli, tmp_path: Path) -> None:
    for path in write_images(tmp_path / "burst", 2):
        path.write_text("no picture")
    outcome = clipcache(tmp_path / "burst", tmp_path / "burst" / "frame1.png")
    assert (outcome.code, clipcache.entries, len(clipcache.failures)) == (1, {}, 2)
    assert any("frame1.png" in line and "not a picture" in line for line in outcome.complaints)


def test_heic_without_its_library_hides_no_other_image_and_is_tried_again(
    clipcache: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_heic(monkeypatch)
    paths = write_images(tmp_path / "burst", 3)
    heic = tmp_path / "burst" / "a.HEIC"
    heic.write_bytes(HEIC_HEAD)
    outcome = clipcache(tmp_path / "burst", heic)
    (entry,) = clipcache.entries.values()
    assert (entry.frame_names, entry.complete) == ([path.name for path in paths], False)
    alone, beside = sorted(outcome.complaints, key=len)
    assert outcome.code == 1
    assert alone.endswith("a.HEIC': it is HEIC; install pillow-heif: pip install 'clipcache[heic]'")
    assert "1 image(s) of " in beside
    assert "with --overwrite, the first: Cannot read the image" in beside
    assert beside.endswith("pip install 'clipcache[heic]'")
    assert clipcache.failures == [], "nothing is wrong with the file"


@needs_avif
def test_avif_and_jpeg_of_a_folder_are_one_entry(clipcache: Cli, tmp_path: Path) -> None:
    (tmp_path / "burst").mkdir()
    two_colours().save(tmp_path / "burst" / "2.avif")
    two_colours().save(tmp_path / "burst" / "1.JPG")
    two_colours().save(tmp_path / "burst" / "3", format="JPEG")
    outcome = clipcache(tmp_path / "burst")
    (entry,) = clipcache.entries.values()
    assert (outcome.code, outcome.complaints) == (0, [])
    assert (entry.frame_names, entry.complete) == (["1.JPG", "2.avif", "3"], True)


@needs_heic
def test_heic_is_extracted_by_a_worker(clipcache: Cli, tmp_path: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(two_colours()).save(tmp_path / "photo")
    outcome = clipcache(tmp_path / "photo", "--num-workers", "1")
    (entry,) = clipcache.entries.values()
    assert (outcome.code, entry.attributes.source_kind, entry.width, entry.height) == (0, "image", 96, 64)


def test_images_beside_a_video_are_left_out_and_named(clipcache: Cli, good: VideoTruth) -> None:
    folder = good.path.parent
    for number in (1, 2):
        two_colours().rotate(number).save(folder / f"photo{number}.png")
    (folder / "track").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(16))
    for words in ([folder, "--dry-run", "--json"], [folder]):
        outcome = clipcache(*words)
        (said,) = outcome.complaints
        assert "2 images, such as " in said
        assert "photo1.png', are left out, beside videos such as 'good.mp4'; name them" in said
    assert list(clipcache.entries) == ["good.mp4"]
    named = clipcache(folder, folder / "*.png")
    assert (named.complaints, sorted(clipcache.entries)) == ([], ["good.mp4", "photo1.png", "photo2.png"])


# --- disguises: nothing but the named file is opened ----------------------------------------------------


def reads_leave_a_trace(path: Path) -> bool:
    """Whether reading here changes the time of last access: the test's own check that it can fail."""
    age(path)
    path.read_bytes()
    return path.stat().st_atime > 1000


def age(path: Path) -> None:
    os.utime(path, (1000, path.stat().st_mtime))


DISGUISES = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.12,\n{name}\n#EXT-X-ENDLIST\n",
    "hls-absolute": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.12,\n{path}\n#EXT-X-ENDLIST\n",
    "hls-file-url": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.12,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "hls-http": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.12,\n{url}\n#EXT-X-ENDLIST\n",
    "hls-concat": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.12,\nconcat:{path}|{path}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{name}'\n",
    "ffconcat-http": "ffconcat version 1.0\nfile '{url}'\n",
    "dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        '<Representation id="1" mimeType="video/mp4"><BaseURL>{name}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    ),
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
    "quicktime-reference": "RTSPtext\nrtsp://127.0.0.1:{port}/x\n",
}


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat"])
@pytest.mark.parametrize("kind", DISGUISES)
def test_playlist_opens_no_neighbour_and_no_network(kind: str, suffix: str, clipcache: Cli, tmp_path: Path) -> None:
    neighbour = make_video(tmp_path / "neighbour.ts", frames=3, size=(64, 48)).path
    if not reads_leave_a_trace(neighbour):
        pytest.skip("this file system keeps no times of access")
    age(neighbour)
    playlist = tmp_path / f"playlist{suffix}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}/neighbour.ts"
        playlist.write_text(DISGUISES[kind].format(name=neighbour.name, path=neighbour, url=url, port=port))
        outcome = clipcache(playlist)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert (outcome.code, clipcache.entries) == (1, {})
    assert neighbour.stat().st_atime == 1000


# --- the disk -------------------------------------------------------------------------------------------


def test_full_disk_ends_the_run_with_one_sentence(tiny_weights: Path, good: VideoTruth, tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk; the kernel answers EFBIG instead of ENOSPC."""
    import resource

    cache_dir = tmp_path / "cache"
    words = [*extract_words(cache_dir, tiny_weights), "--num-workers", "0", str(good.path)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))  # noqa: E731
    with start_extract(*words, preexec_fn=limit) as process:
        out, err = process.communicate()
    assert process.returncode == 1
    assert [line for line in err.splitlines() if line] == [line for line in err.splitlines() if "Cannot write" in line]
    assert err.count("clipcache: ") == 1
    assert out == ""
    assert_sound(cache_dir)
    assert not (cache_dir / "failed.jsonl").exists()  # the disk's failure, not the video's


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("workers", ["0", "1"])
def test_disk_that_takes_nothing_ends_the_run_with_one_sentence(
    code: int, workers: str, clipcache: Cli, good: VideoTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        outcome = clipcache(good.path, "--num-workers", workers)
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert os.strerror(code) in outcome.complaints[0]
    assert clipcache.failures == []
    assert_sound(clipcache.cache_dir)
    assert clipcache(good.path).code == 0


@pytest.mark.parametrize("bad", [False, True])
def test_cache_that_cannot_be_made_is_one_sentence(bad: bool, clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    if bad:
        good.path.write_text("no video")
    outcome = clipcache(good.path, "--cache", tmp_path / "file" / "cache")
    assert (outcome.code, len(outcome.complaints)) == (1, 1)
    assert "Cannot make the cache" in outcome.complaints[0]
    assert "--cache" in outcome.complaints[0]


def test_log_of_failures_that_cannot_be_written_is_one_sentence(
    clipcache: Cli, good: VideoTruth, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    (clipcache.cache_dir / "failed.jsonl").mkdir(parents=True)
    outcome = clipcache(bad, good.path)
    assert outcome.code == 1
    assert any("failed.jsonl" in line for line in outcome.complaints)


# --- weights --------------------------------------------------------------------------------------------


class _Payload:
    """A pickle that makes a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def _text(path: Path, tiny: Path) -> Path:
    target = path.with_suffix(".pt")
    target.write_text("These are not the weights you are looking for.\n")
    return target


def _text_safetensors(path: Path, tiny: Path) -> Path:
    target = path.with_suffix(".safetensors")
    target.write_text("These are not the weights you are looking for.\n")
    return target


def _empty(path: Path, tiny: Path) -> Path:
    target = path.with_suffix(".pt")
    target.touch()
    return target


def _truncated(path: Path, tiny: Path) -> Path:
    target = path.with_suffix(".safetensors")
    target.write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2])
    return target


def _truncated_pt(path: Path, tiny: Path) -> Path:
    target = write_tiny_weights(path.with_suffix(".pt"))
    target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    return target


def _damaged_zip(path: Path, tiny: Path) -> Path:
    """The end of the archive is in place and what it points at is not."""
    target = write_tiny_weights(path.with_suffix(".pt"))
    data = bytearray(target.read_bytes())
    start = data.rfind(b"PK\x01\x02")
    data[start : start + 4] = b"\0\0\0\0"
    target.write_bytes(data)
    return target


def _pickle(path: Path, tiny: Path) -> Path:
    target = path.with_suffix(".pt")
    target.write_bytes(pickle.dumps(_Payload(path.with_name("marker"))))
    return target


def _torch_pickle(path: Path, tiny: Path) -> Path:
    import torch

    target = path.with_suffix(".pt")
    torch.save({"visual.proj": _Payload(path.with_name("marker"))}, target)
    return target


def _torchscript(path: Path, tiny: Path) -> Path:
    """As far as a reader can tell before opening it: a zip file with a folder of code."""
    target = path.with_suffix(".pt")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/code/__torch__.py", "class Evil:\n  pass\n")
        archive.writestr("archive/data.pkl", pickle.dumps(_Payload(path.with_name("marker"))))
    return target


def _not_clip(path: Path, tiny: Path) -> Path:
    import torch

    target = path.with_suffix(".pt")
    torch.save({"layer.weight": torch.zeros(3, 3)}, target)
    return target


def _no_dict(path: Path, tiny: Path) -> Path:
    import torch

    target = path.with_suffix(".pt")
    torch.save([torch.zeros(3)], target)
    return target


def _folder(path: Path, tiny: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "make",
    [
        *(_text, _text_safetensors, _empty, _truncated, _truncated_pt, _damaged_zip, _pickle, _torch_pickle),
        *(_torchscript, _not_clip, _no_dict, _folder),
    ],
)
def test_wrong_weights_are_one_sentence_and_run_no_code(
    make: Callable[[Path, Path], Path], clipcache: Cli, good: VideoTruth, tiny_weights: Path, tmp_path: Path
) -> None:
    weights = make(tmp_path / "weights", tiny_weights)
    outcome = clipcache(good.path, "--weights", weights)
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert outcome.err.strip() == outcome.complaints[0]  # nothing else, no warning of torch's
    assert weights.name in outcome.complaints[0]
    if make is _torchscript:
        assert "--trust-weights" in outcome.complaints[0]
    assert not (tmp_path / "marker").exists()
    assert clipcache.entries == {}
    assert clipcache.failures == []  # the model's failure, not the video's


def test_missing_weights_are_one_sentence(clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    outcome = clipcache(good.path, "--weights", tmp_path / "nowhere.pt")
    assert (outcome.code, len(outcome.complaints)) == (1, 1)
    assert "nowhere.pt' does not exist" in outcome.complaints[0]


@pytest.mark.parametrize("model", ["ViT-B/32", "ViT-B/16", "ViT-L/14", "RN50", "RN101"])
def test_weights_of_another_architecture_are_refused(model: str, clipcache: Cli, good: VideoTruth) -> None:
    outcome = clipcache(good.path, model=model)
    assert (outcome.code, len(outcome.complaints)) == (1, 1)
    assert f"holds another model than {model}" in outcome.complaints[0]
    assert clipcache.entries == {}


def test_published_name_does_not_take_its_neighbours_weights(clipcache: Cli, good: VideoTruth, tmp_path: Path) -> None:
    """ViT-B/16 and ViT-B/32 agree in everything that a feature shows: 512 values from 224 pixels."""
    weights = write_tiny_weights(tmp_path / "b16.safetensors", width=768, layers=1, patch_size=16)
    outcome = clipcache(good.path, "--weights", weights, model="ViT-B/32")
    assert outcome.code == 1
    assert "holds another model than ViT-B/32" in outcome.err


def test_unknown_model_without_weights_is_wrong_usage(clipcache: Cli, good: VideoTruth) -> None:
    with pytest.raises(UsageError, match="Unknown model 'tiny'"):
        extract([good.path], clipcache.cache_dir, ExtractOptions(model="tiny"))


# --- --debug --------------------------------------------------------------------------------------------


def test_debug_shows_the_traceback(
    clipcache: Cli, good: VideoTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["clipcache", "extract", "--debug", str(tmp_path), "--weights", "nowhere.pt"])
    with pytest.raises(ClipcacheError, match=r"nowhere\.pt"):
        cli.main()


def test_dollar_empty_is_not_the_current_folder(good: VideoTruth, monkeypatch: pytest.MonkeyPatch) -> None:
    """`clipcache extract "$UNSET"` must not begin to encode whatever lies here."""
    monkeypatch.chdir(good.path.parent)
    with pytest.raises(UsageError):
        inputs.find_items([""])


def test_a_copy_shares_the_fate_of_what_it_copies(tmp_path: Path, tiny_weights: Path) -> None:
    from clipcache.extract import ExtractOptions, extract

    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"this is no video, twice")
    options = ExtractOptions(model="tiny", weights=tiny_weights, num_workers=0)
    for _ in range(2):
        summary = extract([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "features", options)
        assert (summary.cached, summary.failed + summary.failed_before) == (0, 2)
