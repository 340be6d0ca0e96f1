"""Deciding without doing: what is found, what is planned, how spans and workers are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipcache.cache.common.errors import MediaError, UsageError
from clipcache.cache.common.hashing import DigestMemo
from clipcache.extract.hashing import hash_all
from clipcache.extract.inputs import HashedItem, Item, find_items, is_video
from clipcache.extract.plan import Action, Planner
from clipcache.extract.video.collector import FrameCollector
from clipcache.extract.video.segments import cut
from clipcache.extract.video.spans import split_spans
from clipcache.extract.workers.sizing import GIB, PARENT_BYTES, WORKER_BYTES, choose_workers, parse_bytes
from PIL import Image

MP4 = b"\0\0\0\x18ftypisom" + bytes(40)


def fill(folder: Path, *names: str, content: bytes = MP4) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            Image.new("RGB", (4, 4), (len(name), 0, 0)).save(path)
        else:
            path.write_bytes(content + name.encode())


def found(folder: Path, *inputs: str, list_file: Path | None = None) -> list[tuple[str, str]]:
    items = find_items([folder / name for name in inputs], list_file)
    return [(str(item.path.relative_to(folder)), item.kind) for item in items]


def test_a_folder_is_searched_for_videos_and_image_folders(tmp_path: Path) -> None:
    fill(
        tmp_path, "v/b10.mp4", "v/b2.MKV", "v/poster.jpg", "v/.hidden.mp4", "v/no_suffix", "burst/10.jpg", "burst/9.png"
    )
    fill(tmp_path, "v/notes.txt", "v/code.ts", content=b"just text ")
    fill(tmp_path, "v/stream.ts", content=b"G" + bytes(187))
    assert found(tmp_path, ".") == [
        ("burst", "image-folder"),
        ("v/b2.MKV", "video"),
        ("v/b10.mp4", "video"),
        ("v/no_suffix", "video"),
        ("v/stream.ts", "video"),
    ]
    (burst,) = find_items([tmp_path / "burst"])
    assert [path.name for path in burst.images] == ["9.png", "10.jpg"]


JPEG_HEAD = b"\xff\xd8\xff\xe0\0\x10JFIF\0"


def brand(name: bytes, *compatible: bytes) -> bytes:
    """The first bytes of an ISO base media file."""
    box = b"ftyp" + name + bytes(4) + b"".join(compatible)
    return (len(box) + 4).to_bytes(4, "big") + box + bytes(64)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.HEIC", b"", "image-folder"),
        ("a.avif", brand(b"avis"), "image-folder"),  # an animation, too: its first picture
        ("a.jfif", b"", "image-folder"),
        ("a", brand(b"heic", b"mif1"), "image-folder"),
        ("a", brand(b"mif1", b"avif"), "image-folder"),
        ("a", JPEG_HEAD, "image-folder"),
        ("a", b"\x89PNG\r\n\x1a\n", "image-folder"),
        ("a", b"RIFF\0\0\0\0WEBPVP8 ", "image-folder"),
        ("a", b"RIFF\0\0\0\0AVI LIST", "video"),
        ("a", brand(b"avis", b"avif", b"msf1"), "video"),  # a sequence has a track
        ("a", brand(b"isom"), "video"),
        ("a.part", brand(b"isom"), "video"),
        ("a.gif", b"GIF89a", "video"),
        ("a.GIF", b"", "video"),
        ("a.m4a", brand(b"M4A "), None),
        ("a.cr3", brand(b"crx "), None),
        ("a.heic_original", brand(b"heic"), None),
        ("a.jpg_original", JPEG_HEAD, None),
        (".a", JPEG_HEAD, None),
    ],
)
def test_what_a_file_is_taken_for_and_what_becomes_of_the_photo_beside_it(
    tmp_path: Path, name: str, content: bytes, kind: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "photo.jpg").write_bytes(b"")
    said: list[str] = []
    (item,) = find_items([tmp_path], on_left_out=said.append)
    images = [path.name for path in item.images]
    if kind == "video":
        assert (item.kind, item.path.name, images) == (kind, name, [])
        assert len(said) == 1
        assert "photo.jpg' is left out" in said[0]
    else:
        assert (item.kind, said) == ("image-folder", [])
        assert sorted(images) == sorted([name, "photo.jpg"] if kind else ["photo.jpg"])


@pytest.mark.parametrize("name", ["a", "a.bak", "a.mp4", "a.heic"])
def test_a_still_image_that_is_named_is_no_video(tmp_path: Path, name: str) -> None:
    """FFmpeg would open it, and show one of its tiles."""
    (tmp_path / name).write_bytes(brand(b"heic", b"mif1"))
    assert found(tmp_path, name) == [(name, "image")]


def test_named_files_are_taken_as_they_are(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "b.jpg", "c.unknown")
    assert found(tmp_path, "a.mp4", "b.jpg", "c.unknown", "a.mp4", "missing.mp4") == [
        ("a.mp4", "video"),
        ("b.jpg", "image"),
        ("c.unknown", "video"),
        ("missing.mp4", "video"),
    ]


def test_globs_are_sorted_naturally(tmp_path: Path) -> None:
    fill(tmp_path, "x/clip10.mp4", "x/clip9.mp4", "x/deep/clip1.mp4", "x/[odd].mp4")
    assert found(tmp_path, "x/clip*.mp4") == [("x/clip9.mp4", "video"), ("x/clip10.mp4", "video")]
    assert ("x/deep/clip1.mp4", "video") in found(tmp_path, "x/**/*.mp4")
    assert found(tmp_path, "x/[odd].mp4") == [("x/[odd].mp4", "video")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.mp4\n\n  sub/b.mp4  \n"),
        ("list.csv", "id,path\n1,a.mp4\n2,sub/b.mp4\n"),
        ("list.txt", "\ufeffpath,id\r\na.mp4,1\r\nsub/b.mp4,2\r\n"),
    ],
)
def test_lists_name_paths_beside_themselves(tmp_path: Path, name: str, text: str) -> None:
    fill(tmp_path, "a.mp4", "sub/b.mp4")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert found(tmp_path, list_file=tmp_path / name) == [("a.mp4", "video"), ("sub/b.mp4", "video")]


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.csv").write_text("id,file\n1,a.mp4\n")
    with pytest.raises(UsageError, match="Name at least one"):
        find_items([])
    with pytest.raises(UsageError, match=r"No video and no image in .*empty"):
        find_items([tmp_path / "empty"])
    with pytest.raises(UsageError, match="no column named path"):
        find_items([], tmp_path / "no.csv")
    with pytest.raises(UsageError, match=r"Cannot read the list .*gone\.txt"):
        find_items([], tmp_path / "gone.txt")


def test_links_to_one_file_are_one_item(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    (tmp_path / "loop").symlink_to(".")
    assert len(found(tmp_path, ".", "loop")) == 1


@pytest.mark.parametrize(
    ("head", "expected"),
    [(MP4, True), (b"\x1aE\xdf\xa3" + bytes(9), True), (b"RIFF....AVI LIST", True), (b"RIFF....WAVEfmt ", False),
     (b"plain text", False), (b"", False), (b"G" + (bytes(187) + b"G") * 3, True)],
)  # fmt: skip
def test_files_without_a_suffix_are_known_by_their_first_bytes(tmp_path: Path, head: bytes, expected: bool) -> None:
    (tmp_path / "file").write_bytes(head)
    assert is_video(tmp_path / "file") is expected


def hashed(sha256: str, problem: MediaError | None = None) -> HashedItem:
    return HashedItem(Item(Path(sha256 or "gone"), "video"), sha256, 1, problem)


@pytest.mark.parametrize(
    ("overwrite", "retry", "expected"),
    [
        (False, False, [Action.HIT, Action.EXTRACT, Action.DUPLICATE, Action.FAILED_BEFORE, Action.UNREADABLE]),
        (False, True, [Action.HIT, Action.EXTRACT, Action.DUPLICATE, Action.RETRY, Action.UNREADABLE]),
        (True, False, [Action.EXTRACT, Action.EXTRACT, Action.DUPLICATE, Action.RETRY, Action.UNREADABLE]),
    ],
)
def test_one_action_per_item(overwrite: bool, retry: bool, expected: list[Action]) -> None:
    items = [hashed("old"), hashed("new"), hashed("new"), hashed("bad"), hashed("", MediaError("Gone."))]
    planner = Planner(lambda sha: sha == "old", {"bad"}, overwrite=overwrite, retry_failed=retry)
    steps = [planner.step(item) for item in items]
    assert [step.action for step in steps] == expected
    assert [step.item for step in steps] == items


def test_hashing_goes_on_past_what_cannot_be_read(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "b.mp4")
    items = find_items([tmp_path / "a.mp4", tmp_path / "missing.mp4", tmp_path / "b.mp4"])
    first, missing, last = hash_all(items, DigestMemo())
    assert missing.problem is not None
    assert "missing.mp4" in str(missing.problem)
    assert first.sha256 != last.sha256
    assert first.size == len(MP4) + len("a.mp4")


def test_long_videos_are_split_into_spans_that_cover_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcache.extract.video.spans.SPAN_FRAMES", 250)
    keyframe = np.zeros(1030, bool)
    keyframe[::100] = True
    _, segments = cut(list(range(1030)), keyframe, np.zeros(1030, bool))

    class Index:
        pass

    index = Index()
    index.segments = segments  # type: ignore[attr-defined]
    spans = split_spans(index)  # type: ignore[arg-type]
    assert [(span.first, span.end) for span in spans] == [(0, 3), (3, 6), (6, 9), (9, 11)]


def test_repeated_frames_are_shipped_once_and_a_rollback_leaves_no_trace() -> None:
    shipped: list[int] = []
    sink = FrameCollector(lambda rgb: rgb, lambda page: shipped.extend(int(p[0, 0, 0]) for p in page), 2, lambda: None)

    def add(*values: int, first: int) -> None:
        for row, value in enumerate(values, first):
            sink.add(row, row * 10.0, np.full((1, 1, 3), value, np.uint8))

    add(1, 1, 2, first=0)
    sink.commit()
    add(9, 9, 2, first=3)
    sink.rollback()
    add(2, 3, 3, 1, first=3)
    collected = sink.finish()
    assert collected.rows.tolist() == list(range(7))
    assert collected.timestamps_ms.tolist() == [row * 10.0 for row in range(7)]
    assert [shipped[source] for source in collected.source] == [1, 1, 2, 2, 3, 3, 1]
    assert collected.shipped == len(shipped)


def test_sizes_in_words() -> None:
    assert [parse_bytes(text) for text in ("4GB", "512MB", "2", "1.5 GiB")] == [
        4 * GIB,
        GIB // 2,
        2 * GIB,
        3 * GIB // 2,
    ]
    with pytest.raises(UsageError, match="4GB or 512MB"):
        parse_bytes("lots")


def test_a_memory_limit_means_fewer_and_then_leaner_workers() -> None:
    assert choose_workers(3, "cpu", None).count == 3
    assert choose_workers(0, "cpu", 1).count == 0
    roomy, tight = PARENT_BYTES + 3 * WORKER_BYTES["torch"], PARENT_BYTES + WORKER_BYTES["pil"]
    assert (choose_workers(3, "cuda", roomy).count, choose_workers(3, "cuda", roomy).resize) == (3, "torch")
    assert (choose_workers(None, "cpu", tight).count, choose_workers(None, "cpu", tight).resize) == (1, "pil")
    with pytest.raises(UsageError, match=r"--limit-memory is too low for 3 worker"):
        choose_workers(3, "cuda", tight)


def test_every_process_that_encodes_counts_against_the_memory_limit() -> None:
    most = 3 * PARENT_BYTES + 2 * WORKER_BYTES["torch"]
    assert choose_workers(None, "cuda:0,cuda:1", None).count == choose_workers(None, "cuda", None).count
    assert choose_workers(3, "cpu,cpu", most + WORKER_BYTES["torch"]).count == 3
    with pytest.raises(
        UsageError, match=rf"the least that works is {(3 * PARENT_BYTES + WORKER_BYTES['pil']) / GIB:.1f}"
    ):
        choose_workers(1, "cpu,cpu", 3 * PARENT_BYTES)
