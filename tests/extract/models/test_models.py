"""The tiny models are models: OpenAI's own builder takes them, and they tell pictures and prompts apart."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from barcode import draw_barcode
from checkout import CHECKOUT
from tiny_models import RESNET, VIT, tiny_clip_state_dict, write_tiny_weights


@pytest.mark.parametrize("kind", [VIT, RESNET])
def test_openai_builder_takes_it(kind: str) -> None:
    import clip.model
    import torch

    model = clip.model.build_model(tiny_clip_state_dict(kind=kind)).float()
    drawn = np.stack([draw_barcode(number, 224, 224) for number in (0, 1, 777)])
    pictures = torch.from_numpy(drawn).permute(0, 3, 1, 2) / 64.0 - 2.0
    tokens = torch.zeros(2, 77, dtype=torch.long)
    tokens[:, 0], tokens[0, 1], tokens[1, 1], tokens[:, 2] = 49406, 320, 1929, 49407
    with torch.inference_mode():
        images, texts = model.encode_image(pictures), model.encode_text(tokens)
    assert images.shape == (3, 512)
    assert texts.shape == (2, 512)
    for vectors in (images, texts):
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        assert torch.isfinite(unit).all()
        cosines = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]
        assert cosines.max() < 0.9999
    assert model.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_layout_is_openais() -> None:
    import torch

    weights = tiny_clip_state_dict()
    assert {int(weights[name]) for name in ("input_resolution", "context_length", "vocab_size")} == {
        224,
        77,
        49408,
    }
    assert weights["visual.conv1.weight"].shape == (64, 3, 32, 32)
    assert weights["visual.conv1.weight"].dtype == torch.float16
    assert weights["visual.proj"].shape == (64, 512)
    assert weights["ln_final.weight"].dtype == torch.float32
    assert weights["token_embedding.weight"].shape == (49408, 64)


def test_seed_decides() -> None:
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (tiny_clip_state_dict(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])


def test_both_file_formats_hold_the_same(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    pickled = torch.load(write_tiny_weights(tmp_path / "tiny.pt", seed=3), weights_only=True)
    safe = load_file(write_tiny_weights(tmp_path / "tiny.safetensors", seed=3))
    assert pickled.keys() == safe.keys()
    assert all(torch.equal(pickled[name], safe[name]) for name in safe)


def test_weights_fixture(tiny_weights: Path) -> None:
    assert tiny_weights.suffix == ".safetensors"
    assert 10_000_000 < tiny_weights.stat().st_size < 20_000_000


def test_benchmark_weights_have_the_published_size() -> None:
    script = CHECKOUT / "benchmarks" / "make_weights.py"
    if not script.is_file():
        pytest.skip("needs the checkout: these tests run from a copy of tests/ alone")
    weights = runpy.run_path(str(script))["random_weights"]("ViT-B/32", seed=0, half=True)
    sizes = {"input_resolution", "context_length", "vocab_size"}
    # 151,277,313: what OpenAI's ViT-B/32 counts to.
    assert sum(tensor.numel() for name, tensor in weights.items() if name not in sizes) == 151_277_313
    assert weights["visual.proj"].shape == (768, 512)
    assert str(weights["visual.conv1.weight"].dtype) == "torch.float16"
