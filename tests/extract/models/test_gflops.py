"""The table of operations per picture is what counting gives, and counting is what paper gives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from checkout import CHECKOUT
from clipcache.extract.models import listing
from clipcache.extract.models.weights import DEMO_MODEL, OPENAI_MODELS

if not (CHECKOUT / "benchmarks" / "count_gflops.py").is_file():
    pytest.skip("benchmarks/ lies in the checkout", allow_module_level=True)

# Input size, patch, width, layers and D of each; stages for ResNets. From the papers' tables.
VITS = {
    "ViT-B/32": (224, 32, 768, 12, 512),
    "ViT-B/16": (224, 16, 768, 12, 512),
    "ViT-L/14": (224, 14, 1024, 24, 768),
    "ViT-L/14@336px": (336, 14, 1024, 24, 768),
}
RESNETS = {
    "RN50": ((3, 4, 6, 3), 224, 64, 1024),
    "RN101": ((3, 4, 23, 3), 224, 64, 512),
    "RN50x4": ((4, 6, 10, 6), 288, 80, 640),
    "RN50x16": ((6, 8, 18, 8), 384, 96, 768),
    "RN50x64": ((3, 15, 36, 10), 448, 128, 1024),
}


@pytest.fixture(scope="module", autouse=True)
def counting() -> Iterator[Any]:
    """`benchmarks` is a folder of the checkout, not an installed package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKOUT)
        from benchmarks import count_gflops

        yield count_gflops
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


@pytest.mark.parametrize("model", OPENAI_MODELS)
def test_gflops_are_those_of_the_architecture(model: str, counting: Any) -> None:
    import clip.model

    with torch.device("meta"):
        if model in VITS:
            size, patch, width, layers, dim = VITS[model]
            tower = clip.model.VisionTransformer(size, patch, width, layers, width // 64, dim)
        else:
            stages, size, width, dim = RESNETS[model]
            tower = clip.model.ModifiedResNet(stages, dim, width // 2, size, width)
    assert counting.count_gflops(tower, size) == pytest.approx(listing.gflops()[model], abs=0.005)
    assert (size, dim) == (OPENAI_MODELS[model].input_size, OPENAI_MODELS[model].embed_dim)


def test_gflops_can_be_worked_out_on_paper(counting: Any) -> None:
    """A multiplication and an addition are two: 5 times 3 values through a 3x7 matrix are 210 operations."""

    class Product(torch.nn.Module):
        def forward(self, pictures: Any) -> Any:
            return pictures.new_empty(5, 3) @ pictures.new_empty(3, 7)

    assert counting.count_gflops(Product(), 8) * 1e9 == 210


def test_openais_models_and_the_demos_are_counted_as_they_are_built(counting: Any) -> None:
    for model in ("RN50", "ViT-B/32", DEMO_MODEL):
        assert counting.count_openai(model) == pytest.approx(listing.gflops()[model], abs=0.005)


@pytest.mark.parametrize("arch", ["ViT-B-32", "RN50-quickgelu", "ViT-B-16-SigLIP", "coca_ViT-B-32", "MobileCLIP-S1"])
def test_open_clips_architectures_are_counted_as_they_are_built(arch: str, counting: Any) -> None:
    open_clip = pytest.importorskip("open_clip")
    assert counting.count_open_clip(open_clip, arch) == pytest.approx(listing.gflops()[f"open_clip:{arch}"], abs=0.005)
