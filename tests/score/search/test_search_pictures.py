"""Pictures of what was found: the right pixels under the right caption, and no text that is cut off or unsaid."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clipcache.cache.common.errors import ClipcacheError, MediaError, UsageError
from clipcache.cache.common.hashing import DigestMemo, content_sha256
from clipcache.cache.select import Selector
from clipcache.extract.video.frames_at import frames_at
from clipcache.score.compare import FrameSelection
from clipcache.score.search.formats import Found
from clipcache.score.search.frames import Hit, Limits
from clipcache.score.search.locate import SourceFinder
from clipcache.score.search.moments import Thresholds
from clipcache.score.search.plot import MAX_VIDEOS, plot_found
from clipcache.score.search.run import Search
from clipcache.score.search.scan import Source
from clipcache.score.search.thumbnails import (
    MAX_ON_SHEET,
    Picture,
    read_pictures,
    shorten,
    thumbnail_names,
    write_contact_sheet,
    write_pictures,
    write_thumbnail,
)
from PIL import Image
from score_caches import FRAMES, make_video, put

GREY = np.full((48, 64, 3), 128, np.uint8)
VIDEO = Source(Path("e.h5"), "a.mp4", "ab" * 32, 1, "video", 25.0, 0.0)


def hit(at_ms: float = 1000.0, query: int = 0, name: str = "a.mp4") -> Hit:
    return Hit(query, replace(VIDEO, name=name), at_ms, 25, None, 0.3125)


def fail(error: ClipcacheError) -> None:
    raise error


def texts(svg: Path) -> str:
    """What matplotlib notes beside the outlines of the letters that it draws."""
    return " | ".join(re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8")))


def test_a_sheet_says_video_time_and_cosine_of_each_picture(tmp_path: Path) -> None:
    found = Found(["a dog", "costs $5 & $6"], [hit(), hit(62_345), hit(query=1, name="b.mp4")])
    assert write_contact_sheet(found, {0: GREY, 1: GREY, 2: GREY}, tmp_path / "sheet.svg") is None
    shown = texts(tmp_path / "sheet.svg").replace("&amp;", "&")
    for text in ("a dog", "costs $5 & $6", "1  a.mp4", "2  a.mp4", "1  b.mp4", "0:01:02.345", "cosine 0.3125"):
        assert text in shown, text
    assert "no picture" not in shown


def test_moments_say_from_when_to_when(tmp_path: Path) -> None:
    found = Found(["x"], [replace(hit(), span_ms=(500.0, 2500.0))], [Thresholds(0.3, 0.2)])
    write_contact_sheet(found, {}, tmp_path / "sheet.svg")
    assert "0:00:00.500 to 0:00:02.500" in texts(tmp_path / "sheet.svg")
    assert "no picture" in texts(tmp_path / "sheet.svg")  # its file was not found


def test_letters_that_the_font_lacks_are_said(tmp_path: Path) -> None:
    sentence = write_contact_sheet(Found(["犬"], [hit()]), {0: GREY}, tmp_path / "sheet.png")
    assert sentence is not None
    assert "drawn as boxes" in sentence


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (1080, 1920), (1920, 108)])
def test_pictures_keep_their_proportions(tmp_path: Path, shape: tuple[int, int]) -> None:
    """A red picture on the white sheet: its bounding box tells."""
    red = np.zeros((*shape, 3), np.uint8)
    red[..., 0] = 255
    found = Found(["x"], [hit(), hit(9000)])
    write_pictures(found, lambda hits: [Picture(n, red) for n in range(len(hits))], None, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    is_red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    is_red[:, is_red.shape[1] // 3 :] = False  # the first of three columns
    rows, columns = np.flatnonzero(is_red.any(axis=1)), np.flatnonzero(is_red.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.1)


@pytest.mark.parametrize(
    ("count", "name", "sentence"),
    [(MAX_ON_SHEET + 1, "s.png", "at most, not 101"), (1, "s.xyz", "Cannot write"), (1, "no/s.png", "Cannot write")],
)
def test_what_cannot_be_a_sheet_is_one_sentence(tmp_path: Path, count: int, name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        write_pictures(Found(["x"], [hit()] * count), lambda _: [], None, tmp_path / name)


def test_a_thumbnail_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="Cannot write"):
        write_pictures(Found(["x"], [hit()]), lambda _: [Picture(0, GREY)], tmp_path / "file", None)


def test_thumbnails_have_names_of_their_own() -> None:
    hits = [hit(), hit(name="../../etc/passwd"), hit(name="犬.mp4"), hit(query=1)]
    names = thumbnail_names(["x", "y"], hits)
    assert names == [
        "1-001-a-0m01s000.jpg",
        "1-002-passwd-0m01s000.jpg",
        "1-003-video-0m01s000.jpg",
        "2-001-a-0m01s000.jpg",
    ]
    assert thumbnail_names(["x"], hits[:1]) == ["001-a-0m01s000.jpg"]


def test_one_file_that_fails_does_not_stop_the_others() -> None:
    told: list[str] = []
    files = {"a.mp4": Path("a"), "bad.mp4": Path("bad"), "gone.mp4": None}

    def decode(path: Path, times: Sequence[float]) -> list[tuple[int, np.ndarray]]:
        if path.name == "bad":
            raise MediaError("It is damaged")
        return [(n, GREY) for n in reversed(range(len(times)))]

    hits = [hit(), hit(name="bad.mp4"), hit(2000), hit(name="gone.mp4")]
    pictures = read_pictures(hits, lambda source: files[source.name], decode, lambda error: told.append(str(error)))
    assert sorted(picture.number for picture in pictures) == [0, 2]
    assert told == ["It is damaged."]


def test_the_pictures_of_a_burst_are_its_files(tmp_path: Path) -> None:
    burst = tmp_path / "shots" / "burst"
    burst.mkdir(parents=True)
    for n in range(3):
        Image.fromarray(GREY + np.uint8(n)).save(burst / f"{n}.png")
    memo = DigestMemo()
    size = sum(path.stat().st_size for path in burst.iterdir())
    source = replace(VIDEO, kind="image-folder", sha256=content_sha256(burst, memo), bytes=size)
    hits = [Hit(0, source, 0.0, n, f"{n}.png", 0.3) for n in (2, 0)]
    finder = SourceFinder(memo, tmp_path / "shots", fail)
    pictures = list(read_pictures(hits, finder.find, frames_at, fail))
    assert [(picture.number, int(picture.rgb[0, 0, 0])) for picture in pictures] == [(0, 130), (1, 128)]


def test_what_is_not_below_the_root_is_told_once(tmp_path: Path) -> None:
    make_video(tmp_path, "other.mp4")
    told: list[str] = []
    finder = SourceFinder(DigestMemo(), tmp_path, lambda error: told.append(str(error)))
    assert finder.find(VIDEO) is finder.find(VIDEO) is None
    assert len(told) == 1
    assert "'a.mp4' is not below" in told[0]


@pytest.fixture
def search_of(tmp_path: Path) -> Callable[..., Search]:
    """A search for x (and more queries) in so many videos of three frames."""

    def make(videos: int = 1, queries: Sequence[str] = ("x axis",), **how: object) -> Search:
        for n in range(videos):
            put(tmp_path / "features", make_video(tmp_path, f"{n}.mp4"), FRAMES, **how)
        chosen = Selector(tmp_path / "features", None, DigestMemo(), lambda _, error: fail(error)).select([])
        directions = np.eye(1, 4, dtype=np.float32).repeat(len(queries), axis=0)
        return Search(tuple(queries), directions, tuple(chosen), FrameSelection(), lambda _, error: fail(error))

    return make


def test_a_plot_names_what_it_shows(search_of: Callable[..., Search], tmp_path: Path) -> None:
    asked = search_of(2, ["a dog", "costs $5 & $6"])
    assert plot_found(asked, Found(asked.queries, asked.frames(Limits())), tmp_path / "plot.svg") == []
    shown = texts(tmp_path / "plot.svg").replace("&amp;", "&")
    for text in ("0.mp4", "1.mp4", "a dog", "costs $5 & $6", "seconds", "cosine (-1 to 1)", "found frame"):
        assert text in shown, text


def test_moments_are_shaded(search_of: Callable[..., Search], tmp_path: Path) -> None:
    """A moment is a broad stripe in a pale shade of its line."""

    def blue(found: Found) -> int:
        plot_found(asked, found, tmp_path / "plot.png")
        with Image.open(tmp_path / "plot.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        return int((np.abs(pixels - (221, 235, 244)).max(axis=2) < 4).sum())  # #1f77b4, 15 % of it on white

    asked = search_of()
    hits, thresholds = asked.moments(Limits(), 0.9, 0.5)
    assert len(hits) == 1
    shaded = blue(Found(asked.queries, hits, thresholds))
    plain = blue(Found(asked.queries, [replace(hits[0], span_ms=None)]))
    assert shaded > plain + 10_000


def test_images_are_drawn_by_their_number(search_of: Callable[..., Search], tmp_path: Path) -> None:
    asked = search_of(frame_names=["1.jpg", "2.jpg", "3.jpg"])
    plot_found(asked, Found(asked.queries, asked.frames(Limits())), tmp_path / "plot.svg")
    assert "image" in texts(tmp_path / "plot.svg")
    assert "seconds" not in texts(tmp_path / "plot.svg")


def test_what_a_plot_does_not_show_is_said(search_of: Callable[..., Search], tmp_path: Path) -> None:
    asked = search_of(MAX_VIDEOS + 1, ["犬"])
    said = plot_found(asked, Found(asked.queries, asked.frames(Limits(top=100))), tmp_path / "plot.png")
    assert len(said) == 2
    assert "shows 12 of 13 videos" in said[0]
    assert "drawn as boxes" in said[1]


@pytest.mark.parametrize("name", ["p.xyz", "no/p.png"])
def test_a_plot_that_cannot_be_written_is_one_sentence(
    search_of: Callable[..., Search], tmp_path: Path, name: str
) -> None:
    asked = search_of()
    with pytest.raises(UsageError, match="Cannot write"):
        plot_found(asked, Found(asked.queries, asked.frames(Limits())), tmp_path / name)
    with pytest.raises(UsageError, match="has no results"):
        plot_found(asked, Found(asked.queries, []), tmp_path / "p.png")


@pytest.mark.parametrize("chars", [10, 11])
def test_long_names_lose_their_middle(chars: int) -> None:
    assert shorten("short", chars) == "short"
    short = shorten("abcdefghijklmnopqrstuvwxyz", chars)
    assert len(short) == chars
    assert short.startswith("abcd")
    assert short.endswith("vwxyz")


def test_a_pipe_is_not_taken_for_a_thumbnail(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="is not a thumbnail"):
        write_thumbnail(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.jpg")
