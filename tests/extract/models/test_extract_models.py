"""Model names, and weights in every form in which they come."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clipcache.cache.common.errors import ModelError, PromptError, UsageError
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.cache.format.names import canonical_model
from clipcache.extract.models import weights
from clipcache.extract.models.frame_encoder import FrameEncoder
from clipcache.extract.models.placement import Placement, check_device, first_device, place, place_each
from clipcache.extract.models.prompts import load_reference_encoder
from clipcache.extract.models.weights import OPENAI_MODELS, WeightsFile, find_weights, load_clip
from numpy.testing import assert_allclose
from tiny_models import RESNET, tiny_clip_state_dict, write_tiny_weights

CPU = Placement("cpu", "fp32", 8)


def given(path: Path, model: str = "tiny") -> WeightsFile:
    return find_weights(model, path, DigestMemo())


def pictures(count: int, size: int = 224) -> Any:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ViT-B/32", "ViT-B/32"),
        ("ViT-B-32", "ViT-B/32"),
        ("vit-b-32", "ViT-B/32"),
        ("openai/clip-vit-base-patch32", "ViT-B/32"),
        ("openai/clip-vit-base-patch16", "ViT-B/16"),
        ("openai/clip-vit-large-patch14-336", "ViT-L/14@336px"),
        ("ViT-L-14-336px", "ViT-L/14@336px"),
        ("ViT-L/14", "ViT-L/14"),
        ("rn50x4", "RN50x4"),
        ("my own", "my own"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    assert canonical_model(spelling) == name


def test_the_list_of_models_is_openais_own() -> None:
    from clip.clip import _MODELS

    ours = {name: f"{weights._DOWNLOAD_ROOT}/{model.sha256}/{name.replace('/', '-').replace('@', '-')}.pt"
            for name, model in OPENAI_MODELS.items()}  # fmt: skip
    assert ours == _MODELS
    for name, url in _MODELS.items():
        assert find_weights(name, None, DigestMemo()).path.name == url.rsplit("/", 1)[1]


@pytest.mark.parametrize("form", ["state.pt", "nested.pt", "state.safetensors"])
def test_every_form_gives_the_same_model(tmp_path: Path, form: str) -> None:
    state = tiny_clip_state_dict()
    path = tmp_path / form
    if form == "nested.pt":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        write_tiny_weights(path)
    batch = pictures(2)
    found = FrameEncoder(given(path), CPU).encode(batch).result()
    reference = load_clip(given(write_tiny_weights(tmp_path / "reference.pt")))
    assert_allclose(found, reference.encode_image(normalised(batch)).numpy(), atol=1e-5)


def normalised(batch: Any) -> Any:
    """CLIP's own arithmetic: divide by 255, then torchvision's Normalize."""
    from torchvision.transforms import Normalize

    normalise = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    return torch.stack([normalise(picture.permute(2, 0, 1) / 255) for picture in batch])


@pytest.mark.parametrize("kind", ["vit", RESNET])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_are_the_models_own(tmp_path: Path, kind: str, precision: str) -> None:
    path = tmp_path / "weights.pt"
    torch.save(tiny_clip_state_dict(kind=kind, input_size=64, patch_size=16), path)
    encoder = FrameEncoder(given(path), Placement("cpu", precision, 8))
    batch = pictures(4, 64)
    found = encoder.encode(batch).result()
    with torch.inference_mode():
        expected = load_clip(given(path)).encode_image(normalised(batch)).numpy()
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert found.dtype == np.float32
    assert found.shape == (4, 512)
    assert encoder.embed_dim == 512
    assert encoder.input_size == 64
    assert encoder.logit_scale == pytest.approx(100, rel=1e-3)
    assert (encoder.logit_bias, encoder.normalization) == (0.0, "none")
    assert encoder.pooling == ("attention pooling" if kind == RESNET else "class token")
    assert cosine.min() >= (0.9999 if precision == "fp32" else 0.999)


class Evil:
    """A pickle that would run code when loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this code must not run",)


def damaged(tmp_path: Path, what: str) -> Path:
    path = tmp_path / ("w.safetensors" if what == "truncated safetensors" else "w.pt")
    good = write_tiny_weights(tmp_path / f"good{path.suffix}")
    if what == "text":
        path.write_text("these are no weights\n")
    elif what == "empty":
        path.touch()
    elif what.startswith("truncated"):
        path.write_bytes(good.read_bytes()[:5000])
    elif what == "code":
        path.write_bytes(pickle.dumps(Evil()))
    elif what == "code in a zip":
        torch.save({"a": Evil()}, path)
    elif what == "no tensors":
        torch.save({"epoch": 3}, path)
    elif what == "another architecture":
        torch.save({"encoder.weight": torch.zeros(3)}, path)
    elif what == "TorchScript":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    return path


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize(
    "what",
    ["text", "empty", "truncated", "truncated safetensors", "code", "code in a zip", "no tensors", "TorchScript",
     "another architecture"],
)  # fmt: skip
def test_bad_weights_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    path = damaged(tmp_path, what)
    with pytest.raises(ModelError, match=path.name) as caught:
        load_clip(given(path))
    assert "\n" not in str(caught.value)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_a_trusted_torchscript_archive_loads(tmp_path: Path) -> None:
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, tensor in tiny_clip_state_dict().items():
                target = self
                *parents, leaf = name.split(".")
                for parent in parents:
                    if not hasattr(target, parent):
                        target.add_module(parent, torch.nn.Module())
                    target = getattr(target, parent)
                target.register_buffer(leaf, tensor if isinstance(tensor, torch.Tensor) else torch.tensor(tensor))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    path = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(Holder()), str(path))
    with pytest.raises(ModelError, match="--trust-weights"):
        load_clip(given(path))
    batch = pictures(1)
    found = FrameEncoder(given(path), CPU, trust=True).encode(batch).result()
    plain = FrameEncoder(given(write_tiny_weights(tmp_path / "plain.pt")), CPU).encode(batch).result()
    assert_allclose(found, plain, atol=1e-6)


def test_a_published_name_wants_its_own_architecture(tmp_path: Path, tiny_weights: Path) -> None:
    small = tmp_path / "small.pt"
    torch.save(tiny_clip_state_dict(input_size=64, patch_size=16), small)
    with pytest.raises(ModelError, match=r"another model than ViT-B/32.*--model NAME"):
        load_clip(given(small, "ViT-B/32"))


def test_missing_weights_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.pt.*--weights"):
        given(tmp_path / "nowhere.pt")
    with pytest.raises(UsageError, match=r"ViT-B/32.*--weights"):
        find_weights("ViT-Z/99", None, DigestMemo())


def test_without_a_network_one_sentence_names_the_ways_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "download_folder", lambda: tmp_path)
    monkeypatch.setattr(weights, "_DOWNLOAD_ROOT", "http://127.0.0.1:9/models")  # nobody listens there
    with pytest.raises(ModelError) as caught:
        load_clip(find_weights("ViT-B/32", None, DigestMemo()))
    sentence = str(caught.value)
    assert "http://127.0.0.1:9/models/" in sentence
    assert str(tmp_path / "ViT-B-32.pt") in sentence
    assert "--weights PATH" in sentence
    assert "--model demo" in sentence
    assert "\n" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_checked_moved_and_kept_as_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = tmp_path / "served"
    state = tiny_clip_state_dict()
    torch.save(state, served)
    known = weights.KnownModel(sha256_file(served), 512, 224)
    monkeypatch.setitem(weights.OPENAI_MODELS, "RN50", known)
    monkeypatch.setattr(weights, "download_folder", lambda: tmp_path / "home")
    monkeypatch.setattr(weights, "_DOWNLOAD_ROOT", (tmp_path / "web").as_uri())
    monkeypatch.setattr(weights, "load_torchscript", lambda path: torch.load(path, weights_only=True))
    (tmp_path / "web" / known.sha256).mkdir(parents=True)
    served.rename(tmp_path / "web" / known.sha256 / "RN50.pt")

    found = find_weights("RN50", None, DigestMemo())
    first = load_clip(found).state_dict()
    assert sorted(path.suffix for path in (tmp_path / "home").iterdir()) == [".pt", ".safetensors"]
    found.path.unlink()  # from now on the copy is used
    again = load_clip(found).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_damaged_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = weights.KnownModel("0" * 64, 512, 224)
    monkeypatch.setitem(weights.OPENAI_MODELS, "RN50", known)
    monkeypatch.setattr(weights, "download_folder", lambda: tmp_path / "home")
    monkeypatch.setattr(weights, "_DOWNLOAD_ROOT", (tmp_path / "web").as_uri())
    (tmp_path / "web" / known.sha256).mkdir(parents=True)
    (tmp_path / "web" / known.sha256 / "RN50.pt").write_bytes(b"half of it")
    with pytest.raises(ModelError, match="arrived damaged"):
        load_clip(find_weights("RN50", None, DigestMemo()))
    assert list((tmp_path / "home").iterdir()) == []


def test_prompts_are_tokenised_as_openai_does(tiny_weights: Path) -> None:
    import clip

    encoder = load_reference_encoder("tiny", sha256_file(tiny_weights), weights=tiny_weights, device="cpu")
    prompts = ["a dog", "Ein Hund läuft", "a photo of a cat, a very small one"]
    with torch.inference_mode():
        expected = load_clip(given(tiny_weights)).encode_text(clip.tokenize(prompts)).numpy()
    assert_allclose(encoder.encode_texts(prompts), expected, atol=1e-5)


def test_reference_images_are_encoded_as_clip_does(tmp_path: Path, tiny_weights: Path) -> None:
    from clip.clip import _transform
    from PIL import Image

    paths = []
    for number, size in enumerate([(300, 200), (224, 224), (1000, 900), (50, 60)]):
        paths.append(tmp_path / f"{number}.png")
        Image.effect_noise(size, 80).convert("RGB").save(paths[-1])
    encoder = load_reference_encoder("tiny", sha256_file(tiny_weights), weights=tiny_weights, device="cpu")
    with torch.inference_mode():
        batch = torch.stack([_transform(224)(Image.open(path)) for path in paths])
        expected = load_clip(given(tiny_weights)).encode_image(batch).numpy()
    found = encoder.encode_images(paths)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.99999


def test_a_prompt_too_long_is_named(tiny_weights: Path) -> None:
    encoder = load_reference_encoder("tiny", sha256_file(tiny_weights), weights=tiny_weights, device="cpu")
    prompt = "word " * 100
    with pytest.raises(PromptError, match=r"word word.* 102 tokens.*77 tokens.*--truncate") as caught:
        encoder.encode_texts(["short", prompt])
    assert caught.value.exit_code == 2
    assert encoder.encode_texts([prompt], truncate=True).shape == (1, 512)


def test_other_weights_than_those_of_the_features_are_refused(tmp_path: Path, tiny_weights: Path) -> None:
    other = write_tiny_weights(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(ModelError, match="not those that made the features"):
        load_reference_encoder("tiny", sha256_file(tiny_weights), weights=other)
    with pytest.raises(ModelError, match="--weights"):
        load_reference_encoder("tiny", "f" * 64)


def test_weights_used_before_are_found_again(tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "w.safetensors")
    import os

    os.utime(path, (1, 1))  # old enough for the memo to be believed
    memo = DigestMemo()
    digest = memo.sha256(path)
    memo.flush()
    assert load_reference_encoder("tiny", digest, device="cpu").encode_texts(["x"]).shape == (1, 512)


@pytest.mark.parametrize(
    ("device", "precision", "sentence"),
    [("tpu", "auto", "auto, cpu, cuda"), ("cpu:1", "auto", "Unknown device"), ("cpu", "fp16", "needs a CUDA device")],
)
def test_places_that_do_not_exist(device: str, precision: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        place(device, precision)


@pytest.mark.parametrize(
    "device", ["", "cpu,", ",cpu", "auto,cpu", "cpu,auto", "cpu, cpu", "cuda:", "cuda:0;cuda:1", "all", None, ["cpu"]]
)
def test_lists_of_devices_that_mean_nothing(device: Any) -> None:
    with pytest.raises(UsageError, match="Unknown device"):
        check_device(device)


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(
    ("devices", "names"),
    [
        ("cuda:all", ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:2,cuda:0", ["cuda:2", "cuda:0"]),
        ("cuda:1", ["cuda:1"]),
        ("auto", ["cuda"]),
    ],
)
def test_a_placement_for_each_device(devices: str, names: list[str]) -> None:
    assert place_each(devices) == [Placement(name, "fp16", 512) for name in names]
    assert place_each(devices, "bf16", 7) == [Placement(name, "bf16", 7) for name in names]
    assert first_device(devices) == {"cuda:all": "cuda"}.get(devices, names[0] if "," in devices else devices)


@pytest.mark.usefixtures("three_gpus")
def test_several_devices_compute_in_one_precision() -> None:
    with pytest.raises(UsageError, match=r"--precision auto means \w+ on cpu, fp16 on cuda:0.*--precision fp32"):
        place_each("cpu,cuda:0")
    assert place_each("cpu,cuda:0", "fp32") == [Placement("cpu", "fp32", 16), Placement("cuda:0", "fp32", 512)]
    with pytest.raises(UsageError, match="needs a CUDA device"):
        place_each("cuda:0,cpu", "fp16")
    with pytest.raises(UsageError, match="has 3 CUDA device"):
        place_each("cuda:0,cuda:3")


@pytest.mark.parametrize("devices", ["cpu,cpu", "cuda:all"])
def test_what_computes_on_one_device_refuses_several(devices: str) -> None:
    with pytest.raises(UsageError, match="means several devices"):
        place(devices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="--device cpu"):
        place("cuda")
    with pytest.raises(UsageError, match=r"--device cuda:all: .* sees no CUDA device; use --device cpu"):
        place_each("cuda:all")
    assert place("auto").device == "cpu"
