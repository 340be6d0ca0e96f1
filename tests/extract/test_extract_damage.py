"""Damage of every kind: whatever the bytes say, an entry is sound, honest about what it lacks, or not there."""

from __future__ import annotations

import os
import random
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from after_hashing import after_hashing
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import ClipcacheError, MediaError, UsageError
from clipcache.cache.verify import verify
from clipcache.extract import ExtractOptions, Summary, extract
from clipcache.extract.cluster.work_queue import WorkQueue
from clipcache.extract.video.collector import FrameCollector
from clipcache.extract.video.decode import Span
from clipcache.extract.video.file_checks.truncation import is_cut_short
from clipcache.extract.video.images import read_image
from clipcache.extract.video.index import read_index
from clipcache.extract.video.spans import part_for
from media import make_video

pytestmark = pytest.mark.once

GOPS = {"x264-params": "keyint=40:min-keyint=40:bframes=3:scenecut=0"}
KINDS = {
    "a.mp4": {"options": GOPS},
    "b.ts": {"options": GOPS},
    "c.mkv": {"options": GOPS},
    "d.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "e.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=40:bframes=3:log-level=none"}},
}


def run(inputs: list[Path], cache: Path, weights: Path, **how: object) -> Summary:
    options = ExtractOptions(model="tiny", weights=weights, **{"num_workers": 0, **how})  # type: ignore[arg-type]
    return extract(inputs, cache, options)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Undamaged videos by name."""
    folder = tmp_path_factory.mktemp("sound")
    return {name: make_video(folder / name, frames=150, **how).path.read_bytes() for name, how in KINDS.items()}  # type: ignore[arg-type]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A few bytes overwritten, at places that are not the header."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 3, 10])):
        at = rng.randrange(len(data) // 8, len(data) - 500)
        length = rng.choice([1, 4, 50, 300])
        changed[at : at + length] = rng.randbytes(length) if rng.random() < 0.6 else bytes(length)
    return bytes(changed)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_no_damage_ends_a_run_or_hides(
    sound: dict[str, bytes], tiny_weights: Path, tmp_path: Path, decoder: str
) -> None:
    rng = random.Random(decoder)
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(6):
        for name, data in sound.items():
            (folder / f"{number}{name}").write_bytes(damaged(data, rng))
    summary = run([folder], tmp_path / "features", tiny_weights, decoder=decoder)
    assert summary.extracted + summary.failed == 30
    assert summary.extracted > 20
    assert summary.partial > 3
    for finding in verify(FeatureCache(tmp_path / "features")):
        assert finding.problem is None
    for entry in FeatureCache(tmp_path / "features"):
        assert len(entry) <= entry.frames_expected
        assert len(entry) == entry.frames_expected or not entry.complete


def test_a_damaged_video_is_decoded_again_at_once(
    sound: dict[str, bytes], tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not wait, as it would for other runs."""
    (tmp_path / "b.ts").write_bytes(damaged(sound["b.ts"], random.Random(0)))
    waited: list[WorkQueue] = []
    monkeypatch.setattr(WorkQueue, "wait", waited.append)
    after_hashing(monkeypatch, lambda: None)
    assert run([tmp_path / "b.ts"], tmp_path / "features", tiny_weights).partial == 1
    assert waited == []


def test_frames_out_of_order_are_put_in_order_and_doubled_ones_count_once() -> None:
    shipped: list[int] = []
    sink = FrameCollector(lambda rgb: rgb, lambda page: shipped.extend(int(p[0, 0, 0]) for p in page), 4, lambda: None)
    for row in (0, 3, 1, 1, 2):
        sink.add(row, row * 40.0, np.full((1, 1, 3), row, np.uint8))
    collected = sink.finish()
    assert collected.rows.tolist() == [0, 1, 2, 3]
    assert collected.timestamps_ms.tolist() == [0.0, 40.0, 80.0, 120.0]
    assert [shipped[source] for source in collected.source] == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_a_cut_is_seen_where_the_container_tells(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"v{suffix}", frames=30).path
    data = path.read_bytes()
    assert not is_cut_short(path)
    for part in (0.3, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        assert is_cut_short(path)


@pytest.mark.parametrize("head", [b"", b"\0\0\0\x01ftyp", b"\0\0\0\x04ftyp" * 4, b"RIFF", b"\x1aE\xdf\xa3", b"plain"])
def test_short_and_foreign_heads_promise_nothing_unreasonable(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "file").write_bytes(head)
    assert is_cut_short(tmp_path / "file") in (True, False)


def test_a_file_that_changes_while_it_is_read_is_not_cached(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, other = make_video(tmp_path / "a.mp4", frames=5).path, make_video(tmp_path / "b.mkv", frames=9).path
    after_hashing(monkeypatch, lambda: video.write_bytes(other.read_bytes()))
    summary = run([video], tmp_path / "features", tiny_weights)
    assert summary.failed == 1
    assert "changed while it was read" in next(iter(summary.failures.values()))
    assert not (tmp_path / "features" / "failed.jsonl").exists()
    monkeypatch.undo()
    assert run([video], tmp_path / "features", tiny_weights).extracted == 1


def test_a_postscript_file_starts_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = tmp_path / "bin" / "gs"
    spy.parent.mkdir()
    spy.write_text(f"#!{sys.executable}\nopen({str(tmp_path / 'started')!r}, 'w')\n")
    spy.chmod(spy.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(MediaError, match=r"photo\.jpg"):
        read_image(picture)
    assert not (tmp_path / "started").exists()


def test_workers_that_cannot_start_end_the_run_and_blame_no_file(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / "a.mp4", frames=3).path
    monkeypatch.setattr("clipcache.extract.workers.process._BOOT", "import sys; sys.exit(7)")
    with pytest.raises(ClipcacheError, match=r"exit code 7.*--num-workers 0"):
        run([video], tmp_path / "features", tiny_weights, num_workers=1)
    assert not (tmp_path / "features" / "failed.jsonl").exists()


def test_features_that_float16_cannot_hold_are_named_and_not_held_against_the_video(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipcache.extract.models.frame_encoder import PendingFeatures

    video = make_video(tmp_path / "a.mp4", frames=3).path
    result = PendingFeatures.result
    with monkeypatch.context() as patch:
        patch.setattr(PendingFeatures, "result", lambda self: result(self) * 1e5)
        summary = run([video], tmp_path / "features", tiny_weights)
        assert "--dtype float32" in next(iter(summary.failures.values()))
        assert run([video], tmp_path / "features", tiny_weights, dtype="float32").extracted == 1
    assert run([video], tmp_path / "other", tiny_weights).extracted == 1


def test_a_batch_too_large_is_one_sentence(tmp_path: Path, tiny_weights: Path) -> None:
    video = make_video(tmp_path / "a.mp4", frames=3).path
    with pytest.raises(UsageError, match="--batch-size"):
        run([video], tmp_path / "features", tiny_weights, batch_size=10**10)


def test_a_worker_is_sent_only_the_index_that_its_span_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcache.extract.video.segments.GOP_FRAMES", 1)
    path = make_video(tmp_path / "a.mp4", frames=200, options={"x264-params": "keyint=10:scenecut=0"}).path
    index = read_index(path)
    assert len(index.segments) == 20
    part, span, wanted = part_for(index, Span(7, 9), np.ones(200, bool))
    assert len(part.segments) == 4
    assert (part.first_row, len(part.shown_pts), len(part.times_ms), len(wanted)) == (60, 40, 40, 40)  # type: ignore[arg-type]
    assert [part.segments[n] for n in range(span.first, span.end)] == list(index.segments[7:9])


def test_spans_of_a_long_video_join_without_a_seam(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", frames=120, options={"x264-params": "open-gop=1:keyint=10:bframes=3"}).path
    whole = tmp_path / "whole"
    run([path], whole, tiny_weights, dtype="float32", precision="fp32")
    monkeypatch.setattr("clipcache.extract.video.segments.GOP_FRAMES", 1)
    monkeypatch.setattr("clipcache.extract.video.segments.MIN_SEGMENT_FRAMES", 1)
    monkeypatch.setattr("clipcache.extract.video.spans.SPAN_FRAMES", 15)
    run([path], tmp_path / "spans", tiny_weights, dtype="float32", precision="fp32")
    one, two = FeatureCache(whole).get(path), FeatureCache(tmp_path / "spans").get(path)
    assert one.frame_index.tolist() == two.frame_index.tolist() == list(range(120))
    assert one.timestamps_ms.tolist() == two.timestamps_ms.tolist()
    np.testing.assert_allclose(one.features, two.features, atol=1e-4)
