"""The fast image towers against the model's own forward pass, which defines what is right."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import clipcache.extract.models.openai_fast as vision
import numpy as np
import pytest
import torch
from clipcache.extract.models.openai_fast import MEAN, STD, PlainTower, TransformerTower, make_tower
from tiny_models import RESNET, tiny_clip_state_dict


def build(**options: Any) -> Any:
    """A CLIP of OpenAI's own code in float32."""
    from clip.model import build_model

    return build_model(tiny_clip_state_dict(**options)).float().eval().requires_grad_(False)


def pictures(count: int, size: int = 224) -> Any:
    """(count, size, size, 3) uint8: from flat black to full contrast, so that an error of scale or shift shows."""
    rng = np.random.default_rng(count)
    found = rng.integers(0, 256, (count, size, size, 3)) * np.linspace(0, 1, count)[:, None, None, None]
    return torch.from_numpy(found.astype(np.uint8))


def expected(model: Any, batch: Any) -> Any:
    """What the model says, after CLIP's preprocessing in plain steps."""
    rgb = batch.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return model.encode_image((rgb - mean) / std)


@pytest.mark.parametrize("count", [1, 5, 16, 17])
@pytest.mark.parametrize("shape", [{}, {"patch_size": 16, "input_size": 96}, {"width": 128, "layers": 3}])
@torch.inference_mode()
def test_the_transformer_tower_is_the_model_in_float32(count: int, shape: dict[str, int]) -> None:
    model, batch = build(**shape), pictures(count, shape.get("input_size", 224))
    right = expected(model, batch)
    found = make_tower(model.visual, torch.float32, "cpu", 16)(batch)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_stays_close(dtype: Any) -> None:
    model, batch = build(), pictures(16)
    right = expected(model, batch)
    found = make_tower(model.visual, dtype, "cpu", 16)(batch)
    assert torch.nn.functional.cosine_similarity(found, right).min() > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_without_packed_weights_the_result_is_the_same(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pictures(8)
    packed = TransformerTower(build().visual, dtype, "cpu", 8)(batch)
    monkeypatch.setattr(vision._Products, "_packing_works", lambda _: False)
    plain = TransformerTower(build().visual, dtype, "cpu", 8)(batch)
    assert torch.nn.functional.cosine_similarity(packed, plain).min() > (0.999999 if dtype is torch.float32 else 0.999)


def test_a_processor_that_refuses_packed_weights_is_served_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("unsupported")

    monkeypatch.setattr(vision._Products, "_packed", refuse)
    tower = TransformerTower(build().visual, torch.float32, "cpu", 2)
    with torch.inference_mode():
        torch.testing.assert_close(tower(pictures(2)), expected(build(), pictures(2)), rtol=1e-4, atol=2e-5)


def test_threads_share_a_tower() -> None:
    tower, batches = make_tower(build().visual, torch.float32, "cpu", 4), [pictures(n) for n in (4, 3, 4, 2, 4, 1)]

    def compute(batch: Any) -> Any:
        with torch.inference_mode():
            return tower(batch)

    alone = [compute(batch) for batch in batches]
    with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        together = list(executor.map(compute, batches))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_a_resnet_runs_as_it_comes() -> None:
    model = build(kind=RESNET)
    right = expected(model, pictures(3))
    tower = make_tower(model.visual, torch.float32, "cpu", 4)
    assert isinstance(tower, PlainTower)
    torch.testing.assert_close(tower(pictures(3)), right, rtol=1e-4, atol=2e-5)
