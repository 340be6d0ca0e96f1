"""Names on the command line become entries: by content, by path, by folder."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import pytest
from clipcache.cache import DigestMemo, Entry
from clipcache.cache.common.errors import CacheError, ClipcacheError, NotCachedError, UsageError
from clipcache.cache.common.hashing import folder_sha256, sha256_file
from clipcache.cache.format.names import model_dir_name
from clipcache.cache.select import Chosen, Selector, check_one_model, differences
from score_caches import FRAMES, make_video, put

MP4 = b"\0\0\0\x18ftypisom"  # how an MP4 file begins
OTHER: dict[str, Any] = {"model": "ViT-L/14", "weights_sha256": "b" * 64}


class Skipped:
    """Collects the entries that were passed over."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path, error: ClipcacheError) -> None:
        self.paths.append(path)


def opened(path: Path) -> Chosen:
    attributes = Entry(path).attributes
    return Chosen(path, attributes, model_dir_name(attributes.model, attributes.weights_sha256))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


def names(cache: Path, targets: Sequence[Path], model: str | None = None) -> list[str]:
    """The video names of what is chosen, when nothing is skipped."""
    skipped = Skipped()
    chosen = Selector(cache, model, DigestMemo(), skipped).select(targets)
    assert not skipped.paths
    return [one.attributes.video_name for one in chosen]


def test_no_target_means_the_whole_cache(cache: Path, videos: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        put(cache, make_video(videos, name))
    assert sorted(names(cache, [])) == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_video_is_found_by_content_in_the_order_named(cache: Path, videos: Path, tmp_path: Path) -> None:
    first, second = make_video(videos, "a.mp4"), make_video(videos, "b.mp4")
    put(cache, first)
    put(cache, second)
    moved = tmp_path / "it's moved\n.mov"
    shutil.move(second, moved)
    assert names(cache, [moved, first]) == ["b.mp4", "a.mp4"]


def test_one_video_under_two_names_is_chosen_once(cache: Path, videos: Path) -> None:
    video = make_video(videos, "a.mp4")
    entry = put(cache, video)
    assert names(cache, [video, entry, make_video(videos, "copy.mp4", video.read_bytes())]) == ["a.mp4"]


def test_an_entry_is_read_from_anywhere_and_without_a_cache(cache: Path, videos: Path, tmp_path: Path) -> None:
    entry = put(cache, make_video(videos, "a.mp4"))
    elsewhere = shutil.copy(entry, tmp_path / "sent by mail.h5")
    assert names(tmp_path / "no such cache", [Path(elsewhere)]) == ["a.mp4"]


def test_a_folder_of_entries_gives_those_of_the_model(cache: Path, videos: Path) -> None:
    video = make_video(videos, "a.mp4")
    put(cache, video)
    put(cache, make_video(videos, "b.mp4"), **OTHER)
    assert sorted(names(cache, [cache])) == ["a.mp4", "b.mp4"]
    assert names(cache, [cache], model="ViT-L-14") == ["b.mp4"]
    assert names(cache, [cache / "ViT-B-32-44444444"]) == ["a.mp4"]


def test_a_folder_of_videos_gives_each_and_ignores_notes(cache: Path, videos: Path) -> None:
    put(cache, make_video(videos, "a.mp4"))
    put(cache, make_video(videos / "deeper", "B.MKV"))
    put(cache, make_video(videos, "no suffix", MP4))
    make_video(videos, "notes.txt")
    make_video(videos, ".hidden.mp4")
    assert sorted(names(cache, [videos])) == ["B.MKV", "a.mp4", "no suffix"]


def test_of_unknown_files_only_those_that_look_like_videos_are_hashed(cache: Path, videos: Path) -> None:
    video = make_video(videos, "a.mp4")
    put(cache, video)
    make_video(videos, "backup.bin")
    sound = make_video(videos, "sound", MP4)

    class Hashed(DigestMemo):
        def sha256(self, path: str | os.PathLike[str]) -> str:
            asked.append(Path(path))
            if path == sound:
                raise UsageError("Cannot read it.")
            return super().sha256(path)

    asked: list[Path] = []
    chosen = Selector(cache, None, Hashed(), Skipped()).select([videos])
    assert [one.attributes.video_name for one in chosen] == ["a.mp4"], "what cannot be read is passed over"
    assert asked == [video, sound]


def test_videos_without_a_suffix_count_where_there_is_nothing_else(cache: Path, videos: Path) -> None:
    put(cache, make_video(videos, "first", MP4))
    assert names(cache, [videos]) == ["first"]
    make_video(videos, "second", MP4 + b"2")
    with pytest.raises(NotCachedError, match="videos"):
        names(cache, [videos])


def test_an_uncached_video_in_a_folder_is_missed(cache: Path, videos: Path) -> None:
    put(cache, make_video(videos, "a.mp4"))
    make_video(videos, "b.mp4")
    with pytest.raises(NotCachedError, match="videos"):
        names(cache, [videos])


def test_a_folder_of_images_is_one_item(cache: Path, tmp_path: Path) -> None:
    images = [make_video(tmp_path / "burst", f"{number}.jpg") for number in (1, 2, 10)]
    image_names = [image.name for image in images]
    digest = folder_sha256(image_names, [sha256_file(image) for image in images])
    put(cache, tmp_path / "burst", frame_names=image_names, video_sha256=digest)
    assert names(cache, [tmp_path / "burst"]) == ["burst"]


def test_images_extracted_one_by_one_are_found_through_their_folder(cache: Path, tmp_path: Path) -> None:
    images = [make_video(tmp_path / "shots", f"{number}.jpg") for number in (1, 2, 10)]
    for image in images[:2]:
        put(cache, image, FRAMES[:1], frame_names=[image.name])
    with pytest.raises(NotCachedError):
        names(cache, [tmp_path / "shots"])
    put(cache, images[2], FRAMES[:1], frame_names=["10.jpg"])
    assert names(cache, [tmp_path / "shots"]) == ["1.jpg", "2.jpg", "10.jpg"]


def test_the_command_for_an_uncached_video_can_be_pasted(cache: Path, videos: Path) -> None:
    video = make_video(videos, "it's new.mp4")
    put(cache, make_video(videos, "a.mp4"))
    for model in (None, "ViT-B/32"):  # not named, it is the model of the cache
        with pytest.raises(NotCachedError) as caught:
            names(cache, [video], model=model)
        command = shlex.split(str(caught.value).removesuffix(".").split("run: ")[1])
        assert command == ["clipcache", "extract", str(video), "--cache", str(cache), "--model", "ViT-B/32"]


def test_without_any_cache_the_command_makes_one(cache: Path, videos: Path) -> None:
    video = make_video(videos, "a.mp4")
    with pytest.raises(NotCachedError) as caught:
        names(cache, [video])
    assert str(caught.value).endswith(f"run: clipcache extract {video} --cache {cache}")
    with pytest.raises(CacheError, match="clipcache extract"):
        names(cache, [])


def test_missing_videos_are_extracted_on_request_and_only_those(cache: Path, videos: Path) -> None:
    known, new = make_video(videos, "a.mp4"), make_video(videos, "b.mp4")
    put(cache, known)
    asked: list[Path] = []

    def extract(targets: Sequence[Path], model: str | None) -> None:
        asked.extend(targets)
        assert model == "ViT-B/32"
        put(cache, new)

    chosen = Selector(cache, None, DigestMemo(), Skipped(), extract).select([known, new])
    assert asked == [new]
    assert [one.attributes.video_name for one in chosen] == ["a.mp4", "b.mp4"]


def test_what_extraction_could_not_make_is_still_missing(cache: Path, videos: Path) -> None:
    with pytest.raises(NotCachedError):
        Selector(cache, None, DigestMemo(), Skipped(), lambda *_: None).select([make_video(videos, "a.mp4")])


def test_several_models_are_named_and_asked_for(cache: Path, videos: Path) -> None:
    video = make_video(videos, "a.mp4")
    first, second = put(cache, video), put(cache, video, **OTHER)
    for targets in ([], [video]):
        with pytest.raises(UsageError, match=r"ViT-B-32-44444444.*ViT-L-14-bbbbbbbb.*--model"):
            names(cache, targets)
    assert names(cache, [video], model="ViT-L/14") == ["a.mp4"]
    with pytest.raises(UsageError, match=r"ViT-B/32.*ViT-L/14.*--model"):
        check_one_model([opened(first), opened(second)])
    narrow = put(cache, make_video(videos, "narrow.mp4", MP4 + b"n"), FRAMES[:, :-1])
    with pytest.raises(UsageError, match="not of one model"):
        check_one_model([opened(first), opened(narrow)])


def test_pictures_beside_videos_and_typescript_are_no_items(cache: Path, videos: Path) -> None:
    put(cache, make_video(videos, "a.mp4"))
    put(cache, make_video(videos, "stream.ts", b"G" + bytes(300)))
    make_video(videos, "poster.jpg")
    make_video(videos, "program.ts", b"export const x = 1\n")
    assert sorted(names(cache, [videos])) == ["a.mp4", "stream.ts"]


@pytest.mark.parametrize(
    "name", ["nowhere.mp4", "nothing here", "x" * 300], ids=["no such file", "empty folder", "too long"]
)
def test_a_target_of_nothing_is_refused(cache: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "nothing here").mkdir()
    with pytest.raises(UsageError, match=name):
        names(cache, [tmp_path / name])


def test_a_folder_that_may_not_be_entered_is_one_sentence(
    cache: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = make_video(videos, "a.mp4")
    real = os.stat

    def refuse(path: Any, *how: Any, **more: Any) -> os.stat_result:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return real(path, *how, **more)

    monkeypatch.setattr(os, "stat", refuse)
    for target in (closed, videos):
        with pytest.raises(UsageError, match="check the path"):
            names(cache, [target])


def test_a_cache_whose_name_is_too_long_is_no_cache(tmp_path: Path, videos: Path) -> None:
    video = make_video(videos, "a.mp4")
    with pytest.raises(NotCachedError):
        names(tmp_path / ("x" * 300), [video])
    with pytest.raises(CacheError, match="There is no feature cache"):
        names(tmp_path / ("x" * 300), [])


def test_a_bad_entry_is_reported_and_the_rest_chosen(cache: Path, videos: Path) -> None:
    put(cache, make_video(videos, "a.mp4"))
    bad = put(cache, make_video(videos, "b.mp4"))
    bad.write_bytes(bad.read_bytes()[:100])
    for targets in ([], [cache], [videos]):
        skipped = Skipped()
        chosen = Selector(cache, None, DigestMemo(), skipped).select(targets)
        assert [one.attributes.video_name for one in chosen] == ["a.mp4"]
        assert skipped.paths == [bad]


def test_an_entry_of_impossible_weights_stops_nothing(cache: Path, videos: Path) -> None:
    put(cache, make_video(videos, "a.mp4"))
    bad = put(cache, make_video(videos, "b.mp4"))
    with h5py.File(bad, "r+") as file:
        file.attrs.create("weights_sha256", b"../../x", dtype=h5py.string_dtype("utf-8", 7))
    skipped = Skipped()
    chosen = Selector(cache, None, DigestMemo(), skipped).select([])
    assert [one.attributes.video_name for one in chosen] == ["a.mp4"]
    assert skipped.paths == [bad]


def test_entries_made_differently_are_pointed_out(cache: Path, videos: Path) -> None:
    alike = [opened(put(cache, make_video(videos, f"{n}.mp4"))) for n in range(2)]
    assert not list(differences(alike))
    odd = opened(
        put(cache, make_video(videos, "odd.mp4"), precision="bf16", sampling="fps=10", complete=False),
    )
    precision, sampling, partial = differences([*alike, odd])
    assert "2 with fp32" in precision
    assert "1 with bf16" in precision
    assert "2 with all" in sampling
    assert "1 with fps=10" in sampling
    assert "'odd.mp4'" in partial


def test_picture_and_sound_are_never_compared_directly(tmp_path: Path) -> None:
    """Both have 512 values; turning one space moves their cosine and nothing else."""
    picture, sound = (
        Chosen(
            tmp_path, Entry(put(tmp_path / "cache", make_video(tmp_path, name), model=model)).attributes, model, None
        )
        for name, model in (("a.mp4", "ViT-B/32"), ("b.mp4", "clap:tiny"))
    )
    with pytest.raises(UsageError, match=r"unrelated.*clipcache align"):
        check_one_model([picture, sound])
