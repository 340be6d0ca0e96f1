"""Names of entries: safe, parseable, and never part of a look-up."""

from __future__ import annotations

from pathlib import Path

import pytest
from cache_entries import MODEL_DIR, put_entry
from clipcache.cache.common.errors import CacheError
from clipcache.cache.entry import Entry
from clipcache.cache.format.names import (
    EntryName,
    ModelDir,
    canonical_model,
    entry_name,
    model_dir_name,
    model_slug,
    parse_entry_name,
    parse_model_dir_name,
)
from clipcache.cache.format.sampling import Sampling

SHA = "0123456789abcdef" * 4


def test_model_names() -> None:
    assert model_slug("ViT-B/32") == "ViT-B-32"
    assert model_slug("ViT-L/14@336px") == "ViT-L-14-336px"
    assert model_dir_name("ViT-B/32", "40d36571" + "0" * 56) == "ViT-B-32-40d36571"
    assert parse_model_dir_name("ViT-B-32-40d36571") == ModelDir("ViT-B-32-40d36571", "ViT-B-32", "40d36571")
    assert parse_model_dir_name("references") is None


@pytest.mark.parametrize("folder", ["mine", "/models/mine", "/models/mine/", ".", "/models/mine/sub/.."])
def test_a_model_in_a_folder_has_the_folders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert canonical_model(f"local-dir:{folder}") == "local-dir:mine"


@pytest.mark.parametrize(
    ("sampling", "suffix"), [("all", ""), ("fps=2", ".fps2"), ("fps=0.5", ".fps0p5"), ("every=16", ".every16")]
)
def test_sampling_is_in_the_name(sampling: str, suffix: str) -> None:
    name = entry_name("my clip", SHA, Sampling.parse(sampling))
    assert name == f"my-clip-0123456789abcdef{suffix}.h5"
    assert parse_entry_name(name) == EntryName("my-clip", "0123456789abcdef", Sampling.parse(sampling))


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "clip.h5",
        "0123456789abcdef.h5",
        "clip-0123456789ABCDEF.h5",
        "clip-0123456789abcdef.fps0.h5",
        "clip-0123456789abcdef.h5\n",
        "../clip-0123456789abcdef.h5",
        ".clip-0123456789abcdef.h5",
    ],
)
def test_other_names_are_not_entries(name: str) -> None:
    assert parse_entry_name(name) is None


@pytest.mark.parametrize("sha256", ["", "ABCDEF" * 10 + "0123", "../" * 21 + "x", SHA + "\n"])
def test_only_a_sha256_makes_a_name(sha256: str) -> None:
    with pytest.raises(CacheError, match="not a sha256"):
        entry_name("clip", sha256, Sampling())


@pytest.mark.parametrize(
    ("video_name", "stem"),
    [
        ("a b 'c' \"d\".mp4", "a-b-c-d"),
        ("line\nbreak.mp4", "line-break"),
        ("../../etc/passwd.mp4", "passwd"),
        ("żółw.mp4", "w"),
        ("日本.mp4", "video"),
        ("x" * 251 + ".mp4", "x" * 80),
        (".mp4", "mp4"),
    ],
)
def test_odd_names_are_stored_as_they_are_and_stay_inside(tmp_path: Path, video_name: str, stem: str) -> None:
    path = put_entry(tmp_path, video_name=video_name)
    assert path.name.rsplit("-", 1)[0] == stem
    assert path.parent.parent == tmp_path / MODEL_DIR
    assert Entry(path).video_name == video_name


def test_bytes_that_are_not_utf8_become_escapes(tmp_path: Path) -> None:
    name = b"caf\xe9 \xff.mp4".decode("utf-8", "surrogateescape")
    path = put_entry(tmp_path, video_name=name)
    assert Entry(path).video_name == "caf\\xe9 \\xff.mp4"
    assert path.name.startswith("caf-")


def test_a_folders_name_has_no_suffix_to_lose(tmp_path: Path) -> None:
    path = put_entry(tmp_path, video_name="2026.05.01", source_kind="image-folder")
    assert path.name.startswith("2026-05-01-")
