"""Heads: LAION's known ratings, layers in a row, and files that are refused."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from clipcache.cache.common.errors import ModelError, UsageError
from clipcache.score.quality.heads import load_head
from clipcache.score.similarity import unit_rows
from safetensors.torch import save_file


def layers(*widths: int) -> dict[str, torch.Tensor]:
    """A state dict as `torch.nn.Sequential` with something without weights in between gives it."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        state[f"layers.{2 * number}.weight"] = torch.randn(outputs, inputs, generator=generator)
        state[f"layers.{2 * number}.bias"] = torch.randn(outputs, generator=generator)
    return state


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def test_laion_s_head_gives_the_known_ratings(test_data: Path) -> None:
    folder = test_data / "clip_reference"
    head = load_head(folder / "sa_0_4_vit_b_32_linear.pth", 512)
    embeddings = np.load(folder / "laion_rating_embeddings.npy")
    known = [-1.470, 0.273, 1.990, 3.611, 5.087, 6.393, 7.668, 8.915, 9.917, 11.006]
    np.testing.assert_allclose(head(embeddings)[:, 0], known, atol=5e-4)


def test_laion_s_head_rates_the_frames_of_a_real_video(test_data: Path) -> None:
    folder = test_data / "clip_reference"
    head = load_head(folder / "sa_0_4_vit_b_32_linear.pth", 512)
    ratings = head(unit_rows(np.load(folder / "v_GGSY1Qvo990_clip.npy")))
    assert (ratings.min(), ratings.mean(), ratings.max()) == pytest.approx((3.824, 4.735, 5.454), abs=1e-3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_layers_are_applied_in_a_row(tmp_path: Path, suffix: str, activation: str) -> None:
    state = layers(4, *[3] * 11, 1)  # layers.10 comes after layers.2, whatever the file's own order
    head = load_head(save(tmp_path / f"mine{suffix}", state), 4, activation)  # type: ignore[arg-type]
    values = frames = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for number in range(12):
        if number and activation == "relu":
            values = np.where(values > 0, values, 0)
        weight, bias = (state[f"layers.{2 * number}.{part}"].numpy() for part in ("weight", "bias"))
        values = np.einsum("ni,oi->no", values, weight) + bias
    np.testing.assert_allclose(head(frames), values, rtol=1e-4, atol=1e-5)
    assert [column.name for column in head.columns] == ["head_mine"]


def test_a_single_layer_may_lack_a_prefix_and_a_bias(tmp_path: Path) -> None:
    path = save(tmp_path / "head.pth", {"weight": torch.tensor([[1.0, 2.0]], dtype=torch.float16)})
    assert load_head(path, 2)(np.array([[3, 4]], np.float32)).tolist() == [[11]]


def test_a_checkpoint_with_a_state_dict_inside_is_taken(tmp_path: Path) -> None:
    torch.save({"state_dict": layers(2, 1), "epoch": 3}, tmp_path / "head.ckpt")
    assert load_head(tmp_path / "head.ckpt", 2).weights[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (layers(8, 1), "takes features of 8 values and the cached ones have 4"),
        (layers(4, 2), "to a single rating"),
        (layers(4, 3, 1) | {"layers.2.weight": torch.zeros(1, 2)}, "to a single rating"),
        (layers(4, 1) | {"layers.0.bias": torch.zeros(2)}, "to a single rating"),
        (layers(4, 1) | {"layers.0.weight": torch.full((1, 4), torch.nan)}, "not finite"),
        (layers(4, 1) | {"norm.running_mean": torch.zeros(4)}, "more than linear layers"),
        ({"conv.weight": torch.zeros(1, 4, 1, 1)}, "more than linear layers"),
        ({"layers.0.bias": torch.zeros(1)}, "more than linear layers"),
        ({"nothing": torch.zeros(1)}, "more than linear layers"),
        ({}, "more than linear layers"),
    ],
)
def test_what_is_no_head_for_these_features_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_head(save(tmp_path / "head.pth", state), 4)


class Trap:
    """Runs code when unpickled carelessly."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("sprung"),)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", "text.pth", "text.safetensors", "trap.pth"])
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("text.pth", "text.safetensors"):
        (tmp_path / text).write_text("no tensors")
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"weight": Trap()}))
    with pytest.raises(ModelError, match=r"^(Cannot read the head|The head) '.*\.$"):
        load_head(tmp_path / name, 4)
    assert not (tmp_path / "sprung").exists()


def test_a_head_of_several_layers_must_say_what_lies_between(tmp_path: Path) -> None:
    """Linear-Dropout-Linear and Linear-ReLU-Linear have the same state dict."""
    path = save(tmp_path / "mlp.pth", layers(4, 3, 1))
    with pytest.raises(UsageError, match="--head-activation"):
        load_head(path, 4)
    assert load_head(save(tmp_path / "linear.pth", layers(4, 1)), 4).activation == "none"


def test_ratings_that_overflow_are_refused(tmp_path: Path) -> None:
    head = load_head(save(tmp_path / "huge.pth", {"weight": torch.full((1, 4), 3e38), "bias": torch.zeros(1)}), 4)
    with pytest.raises(ModelError, match="not finite"):
        head(np.full((2, 4), 0.5, np.float32))
