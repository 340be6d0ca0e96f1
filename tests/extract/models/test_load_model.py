"""From prompts and pictures to vectors in Python: `load_model` and what is compared with its vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clipcache.cache.common.errors import MediaError, ModelError, UsageError
from clipcache.extract import load_model
from clipcache.extract.models.prompts import LoadedModel
from clipcache.score import similarities
from demo_library import DemoLibrary
from PIL import Image


@pytest.fixture(scope="module")
def demo_model() -> LoadedModel:
    return load_model("demo", device="cpu")


def frames_of(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_prompts_score_the_demo_library(demo_library: DemoLibrary, demo_model: LoadedModel) -> None:
    subjects = [caption for caption in demo_library.captions if not caption.endswith("photo")]
    texts = demo_model.encode_texts(subjects)
    assert (texts.shape, texts.dtype) == ((len(subjects), demo_model.spec.embed_dim), np.float32)
    intervals = [interval for interval in demo_library.truth if interval.caption in subjects]
    for interval in intervals:
        cosines = similarities(demo_library.entry(interval.video).features, texts)
        mean = cosines[demo_library.rows(interval)].mean(axis=0)
        assert subjects[int(mean.argmax())] == interval.caption


def test_pictures_have_the_vectors_of_the_frames_that_they_are(
    demo_library: DemoLibrary, demo_model: LoadedModel
) -> None:
    video = demo_library.truth[0].video
    frames = frames_of(demo_library.folder / video)[::10]
    cached = demo_library.entry(video).features[::10]
    cosines = similarities(cached, demo_model.encode_images(frames))
    assert np.diag(cosines).min() > 0.999  # the library is cached in the precision that this machine is fastest in


def test_a_path_an_array_and_a_batch_are_one_picture(
    demo_library: DemoLibrary, demo_model: LoadedModel, tmp_path: Path
) -> None:
    frames = frames_of(demo_library.folder / demo_library.truth[0].video)
    first, last = frames[0], np.ascontiguousarray(frames[-1][:50, :70])
    Image.fromarray(first).save(tmp_path / "first.png")
    first.setflags(write=False)
    together = demo_model.encode_images([tmp_path / "first.png", str(tmp_path / "first.png"), first, last])
    alone = np.concatenate([demo_model.encode_images([picture]) for picture in (first, last)])
    np.testing.assert_allclose(together, alone[[0, 0, 0, 1]], atol=1e-5)
    mirrored = demo_model.encode_images([first[:, ::-1]])
    assert np.array_equal(mirrored, demo_model.encode_images([np.ascontiguousarray(first[:, ::-1])]))
    assert not np.allclose(alone[0], alone[1])


def test_nothing_gives_no_rows(demo_model: LoadedModel) -> None:
    assert demo_model.encode_texts([]).shape == demo_model.encode_images([]).shape == (0, 512)


def test_what_is_not_a_list_or_not_a_picture_is_refused(demo_model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a list of prompts"):
        demo_model.encode_texts("a red circle")
    for one in ("picture.png", Path("picture.png")):
        with pytest.raises(UsageError, match="a list of pictures"):
            demo_model.encode_images(one)  # type: ignore[arg-type]
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UsageError, match="uint8 RGB"):
            demo_model.encode_images([array])
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(MediaError, match=r"text\.png"):
        demo_model.encode_images([tmp_path / "text.png"])


def test_precision_weights_and_trust_reach_the_model(tiny_weights: Path, tmp_path: Path) -> None:
    pictures = [np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)]
    exact, rounded = (
        load_model("tiny", weights=tiny_weights, device="cpu", precision=precision).encode_images(pictures)
        for precision in ("fp32", "bf16")
    )
    assert not np.array_equal(exact, rounded)
    assert similarities(exact, rounded)[0, 0] > 0.999
    with pytest.raises(UsageError, match="Unknown precision 'fp8'"):
        load_model("demo", precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Unknown model 'tiny'"):
        load_model("tiny")
    with pytest.raises(ModelError, match="does not exist"):
        load_model("tiny", weights=tmp_path / "gone.pt")
