"""Options are checked where they are made: a wrong value is one sentence before anything is read."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache import FeatureCache
from clipcache.cache.common.errors import UsageError
from clipcache.cache.format.sampling import Sampling
from clipcache.extract import ExtractOptions, extract, load_model
from clipcache.extract.audio.windows import Windows
from clipcache.extract.models.prompts import load_reference_encoder
from clipcache.extract.options import SoundOptions
from video_files import make_video

FOR_BOTH: list[tuple[str, Any, str]] = [
    ("weights", 5, "a str or a Path"),
    ("device", "tpu", "auto, cpu, cuda, cuda:N"),
    ("device", "cuda:", "auto, cpu, cuda, cuda:N"),
    ("device", 0, "auto, cpu, cuda, cuda:N"),
    ("batch_size", 0, "1 or more"),
    ("batch_size", 1.5, "1 or more"),
    ("batch_size", True, "1 or more"),
    ("dtype", "float64", "float16 or float32"),
    ("dtype", np.float32, "float16 or float32"),
    ("num_workers", -1, "0 or more"),
    ("num_workers", "4", "0 or more"),
    ("memory_limit", "4GB", "0 or more"),
    ("memory_limit", -1, "0 or more"),
    ("stall_seconds", 0, "more than 0"),
    ("stall_seconds", math.nan, "more than 0"),
    ("stall_seconds", "60", "more than 0"),
    ("start_seconds", 0, "more than 0"),
]
FOR_PICTURES: list[tuple[str, Any, str]] = [
    ("model", None, "ViT-B/32"),
    ("precision", "fp8", "auto, fp32, bf16, fp16"),
    ("decoder", "pyva", "auto, decord or pyav"),
    ("sampling", "fps=2", "Sampling(fps=2)"),
]


@pytest.mark.parametrize(("name", "value", "choices"), [*FOR_BOTH, *FOR_PICTURES])
def test_a_wrong_value_is_refused_and_the_choices_are_named(name: str, value: Any, choices: str) -> None:
    with pytest.raises(UsageError) as refused:
        ExtractOptions(**{name: value})
    assert repr(value) in refused.value.problem
    assert choices in refused.value.remedy


@pytest.mark.parametrize(("name", "value", "choices"), [*FOR_BOTH, ("windows", 5, "Windows(window_s=5")])
def test_a_wrong_value_for_sound_is_refused_too(name: str, value: Any, choices: str) -> None:
    with pytest.raises(UsageError) as refused:
        SoundOptions(**{name: value})
    assert choices in refused.value.remedy


def test_right_values_are_kept() -> None:
    values = {
        "weights": "file.pt",
        "device": "cuda:12",
        "precision": "bf16",
        "batch_size": np.int64(7),
        "num_workers": 0,
        "decoder": "decord",
        "sampling": Sampling(fps=2),
        "dtype": "float32",
        "memory_limit": 0,
        "stall_seconds": 0.5,
    }
    options = dataclasses.replace(ExtractOptions(), **values)  # type: ignore[arg-type]
    assert {name: getattr(options, name) for name in values} == values
    assert SoundOptions("folder", Windows(5, 2.5)).weights == "folder"


@pytest.mark.parametrize("kind", [str, Path])
def test_every_path_may_be_a_str_or_a_path(kind: Any, tiny_weights: Path, tmp_path: Path) -> None:
    good = make_video(tmp_path / "good.mp4", frames=5, size=(96, 64))
    (tmp_path / "list.txt").write_text(f"{good.path}\n")
    options = ExtractOptions(model="tiny", weights=kind(tiny_weights), device="cpu", num_workers=0)
    summary = extract([kind(good.path)], kind(tmp_path / "a"), options, list_file=kind(tmp_path / "list.txt"))
    assert summary.extracted == 1
    entry = next(iter(FeatureCache(kind(tmp_path / "a"))))
    for model in (
        load_model("tiny", weights=kind(tiny_weights), device="cpu"),
        load_reference_encoder("tiny", entry.weights_sha256, weights=kind(tiny_weights), device="cpu"),
    ):
        assert model.encode_texts(["x"]).shape == (1, entry.features.shape[1])


def test_one_path_is_not_a_list_of_letters(tmp_path: Path) -> None:
    for inputs in ("videos", Path("videos")):
        with pytest.raises(UsageError, match="The inputs are one path, 'videos'; give a list of paths"):
            extract(inputs, tmp_path)  # type: ignore[arg-type]
