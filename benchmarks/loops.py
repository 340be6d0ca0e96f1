"""What people run today, written as they write it: the reference loops, from their documented behaviour.

Each runs in a child, loads the model before the clock starts, and returns seconds; torch's threads are left alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

BATCH = 128
Encode = Callable[[Any], Any]


@lru_cache(maxsize=1)
def _model(weights: str, device: str) -> tuple[Encode, Callable[[Any], Any]]:
    """`encode_image` in float32 and CLIP's own preprocessing, as `clip.load` returns them."""
    import torch
    from safetensors.torch import load_file

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from clip.clip import _transform
        from clip.model import build_model
    model = build_model(load_file(weights)).float().eval().to(device)

    def encode(images: Any) -> Any:
        with torch.no_grad():
            return model.encode_image(images.to(device)).cpu()

    return encode, _transform(model.visual.input_resolution)


def _pictures(path: str, frames: int) -> Iterator[Any]:
    """Frames of a video as PIL images, by PyAV."""
    import av

    with av.open(path) as container:
        for frame in islice(container.decode(video=0), frames):
            yield frame.to_image()


def one_by_one(path: str, weights: str, device: str, frames: int, save: str = "") -> float:
    """(a) PyAV, PIL, CLIP's preprocessing, `encode_image`: one frame at a time, float32."""
    encode, preprocess = _model(weights, device)
    started = time.perf_counter()
    features = [encode(preprocess(picture).unsqueeze(0)) for picture in _pictures(path, frames)]
    return _done(started, features, frames, save)


def batches_through_loader(path: str, weights: str, device: str, frames: int, save: str = "") -> float:
    """(b) The same with batches of 128 from a DataLoader, whose worker decodes and preprocesses."""
    import torch

    encode, preprocess = _model(weights, device)

    class Frames(torch.utils.data.IterableDataset):  # type: ignore[misc]
        """The frames of one video; with more than one worker each of them would decode all of it."""

        def __iter__(self) -> Iterator[Any]:
            return (preprocess(picture) for picture in _pictures(path, frames))

    started = time.perf_counter()
    loader = torch.utils.data.DataLoader(Frames(), batch_size=BATCH, num_workers=1)
    features = [encode(images) for images in loader]
    return _done(started, features, frames, save)


def decord_batches(path: str, weights: str, device: str, frames: int, save: str = "") -> float:
    """(c) decord's `get_batch` of 128 frames, PIL, CLIP's preprocessing, `encode_image` on the batch."""
    import torch  # first: decord2 loads what CUDA libraries it finds, and torch after those crashes without a GPU

    import decord  # isort: skip
    from PIL import Image

    encode, preprocess = _model(weights, device)
    started = time.perf_counter()
    reader = decord.VideoReader(path)
    features = []
    for first in range(0, min(frames, len(reader)), BATCH):
        batch = reader.get_batch(range(first, min(first + BATCH, frames))).asnumpy()
        features.append(encode(torch.stack([preprocess(Image.fromarray(rgb)) for rgb in batch])))
    return _done(started, features, frames, save)


def _done(started: float, features: list[Any], frames: int, save: str) -> float:
    """Seconds since the start; the features go to a file if one is named.

    Raises:
        RuntimeError: There are fewer of them than frames.
    """
    import numpy as np
    import torch

    seconds = time.perf_counter() - started
    joined = torch.cat(features).numpy()
    if len(joined) != frames:
        raise RuntimeError(f"{len(joined)} features of {frames} frames")
    if save:
        np.save(save, joined)
    return seconds
