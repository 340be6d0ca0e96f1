"""Preprocessing against PIL, torchvision and CLIP's own reference tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.extract.models.openai_fast import MEAN, STD
from clipcache.extract.video.images import read_image
from clipcache.extract.video.resize import crop_offset, make_resize, resized_shape
from PIL import Image

SHAPES = [
    (240, 320),
    (720, 1280),
    (1280, 720),
    (448, 448),
    (450, 2000),
    (1345, 1345),
    (241, 321),
    (64, 64),
    (100, 1000),
]
SHAPES += [(224, 224), (225, 224), (2, 3)]


def picture(height: int, width: int) -> np.ndarray:
    """Edges, gradients and noise: what separates one resize filter from another."""
    rng = np.random.default_rng(height * 10_000 + width)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 / width, y * 255 / height, (x + y) % 256], -1)
    blocks = ((x // 7 + y // 5) % 2 * 255)[..., None]
    return np.clip(smooth * 0.4 + blocks * 0.4 + rng.integers(0, 50, (height, width, 3)), 0, 255).astype(np.uint8)


def with_torchvision(rgb: np.ndarray, size: int) -> np.ndarray:
    """What CLIP itself does to a PIL image before it becomes a tensor."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    transform = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size)])
    return np.asarray(transform(Image.fromarray(rgb)))


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("backend", ["torch", "pil"])
def test_resize_equals_clips_own(height: int, width: int, backend: str) -> None:
    rgb = picture(height, width)
    difference = np.abs(make_resize(224, backend)(rgb).astype(int) - with_torchvision(rgb, 224))
    assert difference.max() <= (1 if backend == "torch" and min(height, width) >= 448 else 0)
    assert (difference > 0).mean() <= 0.005


def test_sizes_and_offsets_round_as_torchvision_does() -> None:
    assert resized_shape(240, 320, 224) == (224, 298)
    assert resized_shape(321, 241, 224) == (298, 224)
    assert [crop_offset(length, 224) for length in (224, 225, 226, 227, 298, 299)] == [0, 0, 1, 2, 37, 38]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="torch, pil"):
        make_resize(224, "magic")


@pytest.mark.parametrize("backend", ["torch", "pil"])
def test_reference_tensors(test_data: Path, backend: str) -> None:
    folder = test_data / "clip_reference"
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    with np.load(folder / "preprocessed_images.npz") as reference:
        assert len(reference.files) == 8
        for stem in reference.files:
            expected = np.rint((reference[stem] * std + mean) * 255)  # the bytes that CLIP normalised
            found = make_resize(224, backend)(read_image(folder / "images" / f"{stem}.jpg")).transpose(2, 0, 1)
            difference = np.abs(found - expected)
            assert difference.max() <= 2, stem
            assert (difference > 0).mean() <= 0.005, stem
