"""Vectors and heads of another model of the same width are noticed, and entries of several logit scales."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_entries import make_attributes
from click.testing import CliRunner, Result
from clipcache.cache.common.errors import UsageError
from clipcache.cli import cli
from clipcache.score.origins import architecture_in, check_origin
from clipcache.score.quality.heads import load_head, load_head_of
from safetensors.torch import save_file
from score_caches import WEIGHTS, X, Y, make_video, put

OTHER = "5" * 64


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    put(tmp_path / "features", make_video(tmp_path / "videos", "a.mp4"))
    return tmp_path / "features"


def embeddings(path: Path, **said: str) -> Path:
    np.savez(path, features=np.array([X, Y]), **said)
    return path


@pytest.mark.parametrize(
    "said",
    [
        {"model": "demo"},
        {"model": "ViT-B/16"},
        {"weights_sha256": OTHER},
        {"model": "ViT-B/32", "weights_sha256": OTHER},
    ],
)
def test_embeddings_that_say_another_model_are_refused(cache: Path, tmp_path: Path, said: dict[str, str]) -> None:
    given = embeddings(tmp_path / "given.npz", **said)
    with pytest.raises(UsageError, match=r"given\.npz' was made with .* and the cached features with ViT-B/32"):
        run("score", "--cache", cache, "--text-embeddings", given)


@pytest.mark.parametrize("said", [{"model": "vit-b-32"}, {"weights_sha256": WEIGHTS}, {"model": "ViT-B/32"}])
def test_embeddings_that_say_the_caches_model_need_no_word(cache: Path, tmp_path: Path, said: dict[str, str]) -> None:
    result = run("score", "--cache", cache, "--text-embeddings", embeddings(tmp_path / "given.npz", **said))
    assert (result.exit_code, result.stderr) == (0, "")


def test_embeddings_that_do_not_say_theirs_get_one_warning(cache: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([X]))
    long = embeddings(tmp_path / "long.npz", model="x" * 5000)  # no name: more than is read
    words = ["--text-embeddings", tmp_path / "rows.npy", "--text-embeddings", embeddings(tmp_path / "b.npz")]
    result = run("score", "--cache", cache, *words, "--text-embeddings", long)
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert all(name in line for name in ("rows.npy", "b.npz", "long.npz", "ViT-B/32, is assumed"))


@pytest.mark.parametrize("form", ["npz", "numpy"])
def test_what_an_export_of_ours_was_made_with_is_known(cache: Path, tmp_path: Path, form: str) -> None:
    run("export", tmp_path / "videos", "--cache", cache, "--format", form, "--output", tmp_path / "out")
    given = tmp_path / "out" / ("a.npz" if form == "npz" else "a_clip.npy")
    assert run("score", "--cache", cache, "--text-embeddings", given).stderr == ""
    put(tmp_path / "others", make_video(tmp_path / "videos", "b.mp4"), model="demo", weights_sha256=OTHER)
    with pytest.raises(UsageError, match="made with weights 44444444 of ViT-B/32"):
        run("score", "--cache", tmp_path / "others", "--text-embeddings", given)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("ViT-B/32", "vit-b-32"),
        ("ViT-L/14@336px", "vit-l-14-336"),
        ("RN50x16", "rn50x16"),
        ("RN50", "rn50"),
        ("open_clip:ViT-L-14-336/openai", "vit-l-14-336"),
        ("open_clip:ViT-bigG-14/laion2b_s39b_b160k", "vit-bigg-14"),
        ("hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "vit-h-14"),
        ("sa_0_4_vit_b_32_linear", "vit-b-32"),
        ("sa_0_4_vit_l_14_linear", "vit-l-14"),
        ("sac+logos+ava1-l14-linearMSE", "vit-l-14"),
        ("clip-vit-large-patch14-336_head", "vit-l-14-336"),
        ("demo", "demo"),
        ("my_head_b32_lr14", ""),
        ("vitamin-l2", ""),
        ("demo_head", ""),
    ],
)
def test_architectures_in_names(name: str, architecture: str) -> None:
    assert architecture_in(name) == architecture


def head(path: Path, **said: str) -> Path:
    """A head of 8 values: the width of `make_attributes`."""
    state = {"weight": torch.ones(1, 8)}
    if path.suffix == ".safetensors":
        save_file(state, path, metadata=said)
    else:
        torch.save({"state_dict": state, **said} if said else state, path)
    return path


NAMED = [
    ("sa_0_4_vit_l_14_linear.pth", {}, "ViT-L/14", "fits"),
    ("sa_0_4_vit_b_32_linear.pth", {}, "ViT-B/16", "refused"),
    ("sa_0_4_vit_b_32_linear.pth", {}, "demo", "refused"),
    ("sa_0_4_vit_l_14_linear.pth", {}, "ViT-L/14@336px", "refused"),
    ("sa_0_4_vit_l_14_linear.pth", {}, "open_clip:ViT-L-14/laion2b_s32b_b82k", "warned"),
    ("sa_0_4_vit_l_14_linear.pth", {}, "my-clip", "warned"),
    ("mine.pth", {}, "ViT-B/32", "warned"),
    ("mine.pth", {"model": "ViT-B-32"}, "ViT-B/32", "fits"),
    ("mine.safetensors", {"model": "demo"}, "ViT-B/32", "refused"),
    ("mine.safetensors", {"weights_sha256": "cd" * 32}, "anything", "fits"),
    ("mine.pth", {"weights_sha256": OTHER, "model": "ViT-B/32"}, "ViT-B/32", "refused"),
    ("vit_l_14.pth", {"model": "my-clip"}, "my-clip", "fits"),  # what is inside counts more
]


@pytest.mark.parametrize(("file", "said", "model", "outcome"), NAMED)
def test_a_head_of_another_model_is_noticed(
    tmp_path: Path, file: str, said: dict[str, str], model: str, outcome: str
) -> None:
    path = head(tmp_path / file, **said)
    made_with = make_attributes(model=model)
    warnings: list[str] = []
    if outcome == "refused":
        with pytest.raises(UsageError, match=f"{file}' was made with .* and the cached features with {model}"):
            load_head_of(path, made_with, None, warnings.append)
    else:
        assert load_head_of(path, made_with, None, warnings.append).weights[0].shape == (1, 8)
    assert [f"{model}, is assumed" in warning for warning in warnings] == [True] * (outcome == "warned")


def test_the_commands_notice_a_head_too(tmp_path: Path) -> None:
    put(tmp_path / "features", make_video(tmp_path / "videos", "a.mp4"))
    torch.save({"weight": torch.ones(1, 4)}, tmp_path / "vit_b_16.pth")
    with pytest.raises(UsageError, match="vit-b-16 and the cached features with ViT-B/32"):
        run("aesthetic", "--cache", tmp_path / "features", "--head", tmp_path / "vit_b_16.pth")
    config = {"output": "out", "cache": "features", "methods": [{"head": "vit_b_16.pth"}]}
    (tmp_path / "bench.yaml").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="vit-b-16 and the cached features with ViT-B/32"):
        run("benchmark", tmp_path / "bench.yaml")


def test_a_text_beside_the_layers_is_no_layer(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1, 8), "model": "ViT-B/32"}, tmp_path / "flat.pth")
    assert load_head(tmp_path / "flat.pth", 8).origin.model == "ViT-B/32"


def test_the_weights_decide_whatever_the_names() -> None:
    from clipcache.score.origins import Origin

    assert check_origin("It", Origin("renamed", "cd" * 32), make_attributes()) is None


# Logit scales.


@pytest.fixture
def two_scales(cache: Path, tmp_path: Path) -> Path:
    put(cache, make_video(tmp_path / "videos", "b.mp4"), logit_scale=50.0)
    put(cache, make_video(tmp_path / "videos", "c.mp4"), logit_scale=100.00000762939453)  # as OpenAI's file has it
    np.savez(tmp_path / "given.npz", features=np.array([X, Y]), weights_sha256=WEIGHTS)
    return cache


@pytest.mark.parametrize(("metric", "is_scaled"), [("logit", True), ("probability", True), ("cosine", False)])
def test_several_logit_scales_are_said_once(two_scales: Path, tmp_path: Path, metric: str, is_scaled: bool) -> None:
    words = ["--cache", two_scales, "--text-embeddings", tmp_path / "given.npz", "--metric", metric]
    lines = run("score", *words).stderr.splitlines()
    assert len(lines) == is_scaled
    assert all("50 for b.mp4; 100 for a.mp4, c.mp4" in line for line in lines)
    assert run("score", tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "c.mp4", *words).stderr == ""


def test_several_logit_scales_are_said_of_pairs_too(two_scales: Path, tmp_path: Path) -> None:
    lines = [f"{tmp_path}/videos/{name}.mp4,{tmp_path}/videos/a.mp4" for name in "ab"]
    (tmp_path / "pairs.csv").write_text("\n".join(["video,reference_video", *lines]))
    words: list[Any] = ["--cache", two_scales, "--pairs", tmp_path / "pairs.csv", "--metric"]
    (line,) = run("score", *words, "logit").stderr.splitlines()
    assert "50 for b.mp4; 100 for a.mp4" in line
    assert run("score", *words, "cosine").stderr == ""


# Manifests.


def exported(cache: Path, tmp_path: Path) -> Path:
    run("export", tmp_path / "videos", "--cache", cache, "--format", "npz", "--output", tmp_path / "out")
    return tmp_path / "out" / "manifest.jsonl"


def warns(cache: Path, given: Path) -> bool:
    result = run("score", "--cache", cache, "--text-embeddings", given)
    assert result.exit_code == 0
    return "is assumed" in result.stderr


def test_a_manifest_counts_only_for_the_file_that_it_describes(cache: Path, tmp_path: Path) -> None:
    manifest = exported(cache, tmp_path)
    given = tmp_path / "out" / "a.npz"
    record = json.loads(manifest.read_text())
    old = record | {"files": [record["files"][0] | {"sha256": OTHER}]}
    old["attributes"] = record["attributes"] | {"weights_sha256": OTHER}
    manifest.write_text(f"{json.dumps(old)}\n{json.dumps(record)}\n")
    assert not warns(cache, given)  # the last record counts
    del record["attributes"]
    manifest.write_text(json.dumps(record) + "\n")
    assert warns(cache, given)
    manifest.unlink()
    assert warns(cache, given)
    manifest.write_text(json.dumps(old) + "\n")
    assert warns(cache, given)  # of another content


def test_the_manifest_of_one_file_is_found_beside_it(cache: Path, tmp_path: Path) -> None:
    manifest = exported(cache, tmp_path)
    manifest.rename(manifest.with_name("a.npz.manifest.jsonl"))
    assert not warns(cache, tmp_path / "out" / "a.npz")


def test_a_model_may_be_named_in_bytes(cache: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "given.npz", features=np.array([X, Y]), model=np.bytes_(b"ViT-B/32"))
    assert not warns(cache, tmp_path / "given.npz")
