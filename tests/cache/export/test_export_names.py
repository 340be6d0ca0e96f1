"""Which name each entry gets, and which files: no file is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cache_entries import make_attributes, sha256_of
from clipcache.cache.export.formats import FORMATS
from clipcache.cache.export.names import name_sources, plan_pieces
from clipcache.cache.select import Chosen

A8, B8 = sha256_of("a")[:8], sha256_of("b")[:8]


def chosen(content: str, video_name: str = "clip.mp4", relative_path: str | None = None, **changes: Any) -> Chosen:
    attributes = make_attributes(video_name=video_name, video_sha256=sha256_of(content), **changes)
    return Chosen(
        Path(f"{content}.h5"), attributes, "ViT-B-32-cdcdcdcd", Path(relative_path) if relative_path else None
    )


def names(*several: Chosen, reserved: str = "") -> list[str]:
    return [source.name for source in name_sources(several, reserved)]


def test_a_name_is_the_videos_with_its_folders() -> None:
    assert names(chosen("a", "holiday.mp4"), chosen("b", "x.mkv", relative_path="2024/beach/x.mkv")) == [
        "holiday",
        "2024/beach/x",
    ]


def test_dots_that_are_no_suffix_stay() -> None:
    assert names(chosen("a", "v1.2.mp4"), chosen("b", "v1.3")) == ["v1.2", "v1.3"]
    assert names(chosen("a", "shots.mp4", source_kind="image-folder")) == ["shots.mp4"]


def test_equal_names_are_told_apart_whatever_the_order() -> None:
    one, other = chosen("a", "clip.mp4"), chosen("b", "Clip.webm")
    assert names(one, other) == [f"clip-{A8}", f"Clip-{B8}"]
    assert names(other, one) == [f"Clip-{B8}", f"clip-{A8}"]


def test_a_name_that_looks_like_one_made_unique_is_made_unique_too() -> None:
    found = names(chosen("a"), chosen("b"), chosen("c", f"clip-{A8}.mp4"))
    assert len(set(found)) == 3
    assert found[1] == f"clip-{B8}"


def test_entries_of_one_video_differ_in_their_sampling() -> None:
    found = names(chosen("a", sampling="fps=0.5"), chosen("a", sampling="every=16"), chosen("a", sampling="every=16"))
    long = sha256_of("a")[:16]
    assert found == [f"clip-{long}-fps0p5", f"clip-{long}-every16-1", f"clip-{long}-every16-2"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd.mp4", "passwd"),
        ("..", "video"),
        ("C:\\windows\\x.mp4", "x"),
        ("a\nb:c?.mp4", "a_b_c_"),
        ("", "video"),
        ("čaj 茶.mp4", "čaj 茶"),
        ("\udcff.mp4", "_udcff"),
        ("x" * 300 + ".mp4", "x" * 160),
        ("{name}.mp4", "{name}"),
    ],
)
def test_no_name_leads_anywhere(name: str, expected: str) -> None:
    assert names(chosen("a", name)) == [expected]


def test_reserved_characters_give_way() -> None:
    assert names(chosen("a", relative_path="x/v1.2.mp4"), reserved="/") == ["x_v1.2"]
    assert names(chosen("a", relative_path="x/v1.2.mp4"), reserved=".") == ["x/v1_2"]
    assert names(chosen("a", relative_path="x/y.mp4"), chosen("b", "x_y.mp4"), reserved="/") == [
        f"x_y-{A8}",
        f"x_y-{B8}",
    ]


def test_pieces_are_a_video_a_shard_or_everything() -> None:
    sources = name_sources([chosen(letter, f"{letter}.mp4") for letter in "abc"])
    triple = plan_pieces(sources, FORMATS["numpy"], "out", 2)
    assert [piece.files[0] for piece in triple] == ["a_clip.npy", "b_clip.npy", "c_clip.npy"]
    shards = plan_pieces(sources, FORMATS["webdataset"], "out", 2)
    assert [(piece.files, len(piece.sources)) for piece in shards] == [
        (("00000_clip_embeddings.tar",), 2),
        (("00001_clip_embeddings.tar",), 1),
    ]
    assert [(piece.files, len(piece.sources)) for piece in plan_pieces(sources, FORMATS["h5"], "out.h5", 2)] == [
        (("out.h5",), 3)
    ]
