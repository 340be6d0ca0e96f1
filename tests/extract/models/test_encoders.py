"""The contract of encoders: who keeps it, who breaks it, and how an encoder of another package is found and used."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import CHECKOUT
from clipcache.cache.common.errors import ModelError, UsageError
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.extract.models import plugins
from clipcache.extract.models.contract import EncoderSpec, FloatArray, check_encoder, state_dict_sha256
from clipcache.extract.models.frame_encoder import FrameEncoder
from clipcache.extract.models.openai import OpenAIClip
from clipcache.extract.models.placement import Placement
from clipcache.extract.models.prompts import LoadedModel, load_reference_encoder
from clipcache.extract.models.registry import find_weights, open_encoder
from clipcache.extract.video.resize import ResizeRule, make_resize, uses_torch
from extract_runs import Cli
from PIL import Image
from tiny_models import RESNET, tiny_clip_state_dict, write_tiny_weights

CPU = Placement("cpu", "fp32", 4)
SPEC = EncoderSpec("toy", "0" * 64, 3, 16)
EXAMPLE = CHECKOUT / "docs" / "examples" / "own_encoder.py"


class Toy:
    """The smallest encoder: the mean colour of a picture, and a few numbers from the letters of a prompt."""

    def __init__(self, spec: EncoderSpec = SPEC) -> None:
        self.spec = spec

    def encode_images(self, pictures: Any) -> Any:
        return pictures.float().square().mean((1, 2)) / 255

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        if not truncate and max(map(len, prompts)) > 100:
            raise ModelError("Too long.")
        return np.array([[len(p), p.count("a"), ord(p[0])] for p in prompts], np.float32)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Let a factory be found as if a package had registered it."""

    def register(name: str, factory: Any) -> None:
        class Point(metadata.EntryPoint):
            def load(self) -> Any:
                return factory

        monkeypatch.setattr(plugins, "entry_points", lambda: [Point(name, f"package:{name}", plugins.GROUP)])

    return register


# The contract.


def test_a_toy_keeps_the_contract() -> None:
    check_encoder(Toy())


@pytest.mark.parametrize("kind", ["vit", RESNET])
def test_openais_models_keep_the_contract(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pt"
    torch.save(tiny_clip_state_dict(kind=kind, input_size=64, patch_size=16), path)
    check_encoder(open_encoder(find_weights("mine", path, DigestMemo()), CPU))


def broken(**methods: Any) -> Toy:
    return type("Broken", (Toy,), methods)()


def remember(self: Toy, pictures: Any) -> Any:
    return Toy.encode_images(self, pictures) - pictures.float().mean()


def overwrite(self: Toy, pictures: Any) -> Any:
    return Toy.encode_images(self, pictures.fill_(7))


def lower_half(self: Toy, pictures: Any) -> Any:
    return Toy.encode_images(self, pictures).half()


def constant(self: Toy, pictures: Any) -> Any:
    return torch.ones(len(pictures), 3)


def too_wide(self: Toy, pictures: Any) -> Any:
    return torch.ones(len(pictures), 4)


def patient(self: Toy, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
    return Toy.encode_texts(self, prompts, truncate=True)


def tensors(self: Toy, prompts: Sequence[str], truncate: bool = False) -> Any:
    return torch.from_numpy(Toy.encode_texts(self, prompts, truncate))


def doubles(self: Toy, prompts: Sequence[str], truncate: bool = False) -> Any:
    return Toy.encode_texts(self, prompts, truncate).astype(np.float64)


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        (broken(encode_images=remember), "depend on the pictures beside it"),
        (broken(encode_images=overwrite), "changes the pictures"),
        (broken(encode_images=lower_half), "gave float16"),
        (broken(encode_images=constant), "all pictures have the same"),
        (broken(encode_images=too_wide), r"\(5, 4\).*\(5, 3\)"),
        (broken(encode_texts=patient), "a prompt that is too long"),
        (broken(encode_texts=tensors), "NumPy array"),
        (broken(encode_texts=doubles), "float64"),
        (Toy(replace(SPEC, has_text=False)), "has_text is false"),
    ],
)
def test_a_broken_contract_is_named(encoder: Toy, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        check_encoder(encoder)


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"weights_sha256": "abc"}, {"embed_dim": 0}, {"input_size": 0}, {"logit_scale": float("nan")},
     {"mean": (0.5,)}, {"std": (0.0, 1.0, 1.0)}, {"logit_bias": float("inf")}, {"normalization": "L2"}],
)  # fmt: skip
def test_a_spec_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="spec of the encoder"):
        replace(SPEC, **wrong)


def test_the_checksum_of_weights_is_that_of_their_names_types_shapes_and_values() -> None:
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(1, dtype=torch.int64)}
    same = {
        "a": torch.tensor(1, dtype=torch.int64),
        "b": torch.arange(6.0).view(3, 2).t().contiguous().t().reshape(2, 3),
    }
    found = state_dict_sha256(state)
    assert found == state_dict_sha256(dict(reversed(state.items()))) == state_dict_sha256(same)
    others = [
        state | {"b": state["b"].view(3, 2)},
        state | {"b": state["b"].double()},
        state | {"b": state["b"] + 1},
        {"b": state["b"], "c": state["a"]},
    ]
    assert len({found, *map(state_dict_sha256, others)}) == 5


# OpenAI's layouts.


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("RN50", {"kind": RESNET, "width": 64, "embed_dim": 1024}),
        ("RN50x4", {"kind": RESNET, "width": 80, "embed_dim": 640, "input_size": 288}),
        ("ViT-B/16", {"width": 768, "layers": 1, "patch_size": 16}),
        ("ViT-L/14@336px", {"width": 1024, "layers": 1, "patch_size": 14, "input_size": 336, "embed_dim": 768}),
    ],
)
def test_sizes_are_read_from_weights_in_the_layout_of_each_name(tmp_path: Path, model: str, shape: Any) -> None:
    path = tmp_path / "w.pt"
    torch.save(tiny_clip_state_dict(**shape), path)
    encoder = FrameEncoder(find_weights(model, path, DigestMemo()), Placement("cpu", "fp32", 1))
    size = shape.get("input_size", 224)
    assert (encoder.spec.name, encoder.input_size) == (model, size)
    features = encoder.encode(torch.zeros(1, size, size, 3, dtype=torch.uint8)).result()
    assert features.shape == (1, shape.get("embed_dim", 512))


@pytest.mark.parametrize(("kind", "precision"), [("vit", "bf16"), (RESNET, "bf16"), (RESNET, "fp32")])
def test_texts_do_not_care_for_the_picture_half(tmp_path: Path, kind: str, precision: str) -> None:
    import clip
    from clip.model import build_model

    state = tiny_clip_state_dict(kind=kind, input_size=64, patch_size=16)
    torch.save(state, tmp_path / "w.pt")
    encoder = open_encoder(find_weights("mine", tmp_path / "w.pt", DigestMemo()), Placement("cpu", precision, 4))
    with torch.inference_mode():
        encoder.encode_images(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
        expected = build_model(state).float().encode_text(clip.tokenize(["a dog", "a cat"])).numpy()
    np.testing.assert_allclose(encoder.encode_texts(["a dog", "a cat"]), expected, rtol=1e-4, atol=1e-5)


def test_encoding_frames_leaves_the_text_half_out(tiny_weights: Path) -> None:
    encoder = open_encoder(find_weights("tiny", tiny_weights, DigestMemo()), CPU, texts=False)
    assert isinstance(encoder, OpenAIClip)
    assert encoder._text is None


def test_weights_that_open_clip_published_are_not_taken_for_openais(tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match="open_clip:ARCH"):
        find_weights("mine", path, DigestMemo())


# Resizing.


def test_resize_rules_are_those_of_open_clip() -> None:
    transform = pytest.importorskip("open_clip").transform
    rng = np.random.default_rng(0)
    for mode, interpolation in [(m, i) for m in ("shortest", "squash", "longest") for i in ("bicubic", "bilinear")]:
        for height, width in [(40, 60), (61, 40), (32, 32), (33, 200), (7, 9), (200, 150), (3, 90)]:
            rgb = np.clip(rng.normal(128, 60, (height, width, 3)), 0, 255).astype(np.uint8)
            config = {"size": 32, "interpolation": interpolation, "resize_mode": mode, "fill_color": 90}
            steps = transform.image_transform_v2(transform.PreprocessCfg(**config), is_train=False).transforms
            picture = Image.fromarray(rgb)
            for step in steps[:-2]:  # all but ToTensor and Normalize
                picture = step(picture)
            rule = ResizeRule(mode, interpolation, 90)
            expected = np.asarray(picture)
            np.testing.assert_array_equal(make_resize(32, "pil", rule)(rgb), expected, f"{config} {rgb.shape}")
            found = make_resize(32, "torch", rule)(rgb)
            assert np.abs(found.astype(int) - expected).max() <= uses_torch(height, width, 32, rule)
            assert found.flags.writeable


@pytest.mark.parametrize("crop", [1.0, 0.95, 0.875, 0.9, 0.96, 0.5])
def test_crops_are_those_of_timm(crop: float) -> None:
    create_transform = pytest.importorskip("timm.data").create_transform
    rng = np.random.default_rng(0)
    for mode, timms in (("shortest", "center"), ("squash", "squash")):
        rule = ResizeRule(mode, "bicubic", crop=crop)
        transform = create_transform(
            input_size=(3, 33, 33), crop_pct=crop, crop_mode=timms, interpolation="bicubic", normalize=False
        )
        for height, width in [(90, 160), (160, 91), (33, 33), (61, 40), (7, 9), (270, 480)]:
            rgb = np.clip(rng.normal(128, 60, (height, width, 3)), 0, 255).astype(np.uint8)
            expected = transform(Image.fromarray(rgb)).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(make_resize(33, "pil", rule)(rgb), expected, f"{timms} {rgb.shape}")
            found = make_resize(33, "torch", rule)(rgb)
            assert np.abs(found.astype(int) - expected).max() <= uses_torch(height, width, 33, rule)


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "stretch"}, {"interpolation": "lanczos"}, {"fill": 256}, {"crop": 0}, {"crop": 1.1},
     {"mode": "longest", "crop": 0.9}],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        ResizeRule(**wrong)


def test_what_is_recorded_says_the_rule() -> None:
    assert SPEC.describe_preprocessing("pil") == "clip: bicubic 16 (pil), centre crop 16"
    squash = replace(SPEC, resize=ResizeRule("squash", "bilinear"), mean=(0.5,) * 3, std=(0.5, 0.25, 1.0))
    assert squash.describe_preprocessing("pil") == "bilinear 16x16 (pil), mean 0.5 0.5 0.5, std 0.5 0.25 1"
    cropped = [replace(SPEC, resize=ResizeRule(mode, crop=0.875)) for mode in ("shortest", "squash")]
    assert [one.describe_preprocessing("pil").partition(", mean")[0] for one in cropped] == [
        "bicubic 18 (pil), centre crop 16",
        "bicubic 18x18 (pil), centre crop 16",
    ]
    longest = replace(SPEC, resize=ResizeRule("longest", fill=7))
    assert longest.describe_preprocessing("pil").startswith("bicubic longer side 16 (pil), padded to 16 with 7, mean")


def test_the_example_refuses_a_crop_that_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    if not EXAMPLE.is_file():
        pytest.skip("needs the checkout: these tests run from a copy of tests/ alone")
    own = runpy.run_path(str(EXAMPLE))["TimmEncoder"]
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "w.pt")
    config = timm.data.resolve_data_config({}, model=timm.create_model("test_vit"))
    monkeypatch.setattr(timm.data, "resolve_data_config", lambda *_, **__: config | {"crop_mode": "border"})
    with pytest.raises(ModelError, match="crop mode 'border'"):
        own("timm:test_vit", tmp_path / "w.pt", "cpu", torch.float32)


# Encoders of other packages.


def toy_factory(model: str, weights: Path | None, device: str, dtype: Any) -> Toy:
    return Toy(replace(SPEC, name=model, weights_sha256=sha256_file(weights) if weights else "1" * 64))


def test_the_name_before_the_colon_finds_the_package(register: Callable[..., None], tmp_path: Path) -> None:
    register("toy", toy_factory)
    for model in ("toy", "toy:large"):
        found = find_weights(model, None, DigestMemo())
        assert (found.model, found.sha256, found.is_file) == (model, "1" * 64, False)
        assert open_encoder(found, CPU).spec.name == model
    with pytest.raises(UsageError, match="Unknown model 'toys'"):
        find_weights("toys", None, DigestMemo())
    (tmp_path / "w.bin").write_bytes(b"weights")
    given = find_weights("toy", tmp_path / "w.bin", DigestMemo())
    assert given.sha256 == sha256_file(tmp_path / "w.bin")
    assert open_encoder(given, CPU).spec.weights_sha256 == given.sha256


def crash(*_: Any) -> Any:
    raise ImportError("no module named dino")


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (crash, r"package:toy cannot be opened \(no module named dino\)"),
        (lambda *_: Toy(), "correct its spec"),
        (lambda *_: Toy(replace(SPEC, name="toy:x", weights_sha256="2" * 64)), "instead of"),
    ],
)
def test_a_factory_that_fails_is_one_sentence(
    register: Callable[..., None], tmp_path: Path, factory: Any, sentence: str
) -> None:
    register("toy", factory)
    (tmp_path / "w.bin").write_bytes(b"weights")
    found = find_weights("toy:x", tmp_path / "w.bin", DigestMemo())
    with pytest.raises(ModelError, match=sentence):
        open_encoder(found, CPU)


def test_a_spec_that_promises_too_much_stops_the_run_at_once(register: Callable[..., None]) -> None:
    register("toy", lambda model, *_: Toy(replace(SPEC, name=model, embed_dim=7)))
    with pytest.raises(ModelError, match=r"shape \(1, 3\).*\(1, 7\)"):
        FrameEncoder(find_weights("toy", None, DigestMemo()), CPU)


def test_a_model_of_pictures_alone_says_so_to_prompts(register: Callable[..., None], tmp_path: Path) -> None:
    register("toy", lambda model, *_: Toy(replace(SPEC, name=model, has_text=False)))
    encoder = LoadedModel(find_weights("toy", None, DigestMemo()), CPU)
    with pytest.raises(ModelError, match="--image"):
        encoder.encode_texts(["a dog"])
    Image.new("RGB", (40, 20), (255, 0, 51)).save(tmp_path / "a.png")
    np.testing.assert_allclose(encoder.encode_images([tmp_path / "a.png"]), [[255, 0, 51 * 51 / 255]], rtol=1e-4)


def test_an_encoder_of_ones_own_extracts_and_scores(
    register: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The documented example, from the command line, with the workers that resize by its rule."""
    timm = pytest.importorskip("timm")
    if not EXAMPLE.is_file():
        pytest.skip("needs the checkout: these tests run from a copy of tests/ alone")
    own = runpy.run_path(str(EXAMPLE))["TimmEncoder"]
    register("timm", own)
    torch.manual_seed(0)
    weights = tmp_path / "w.pt"
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), weights)
    check_encoder(own("timm:test_vit", weights, "cpu", torch.float32))

    picture = tmp_path / "a.png"
    Image.radial_gradient("L").resize((320, 180)).convert("RGB").save(picture)
    run = Cli(tmp_path / "cache", weights, monkeypatch, capsys)
    assert run(picture, "--num-workers", "1", "--dtype", "float32", model="timm:test_vit").code == 0
    entry = run.entries["a.png"]
    assert (entry.attributes.model, entry.attributes.weights_sha256) == ("timm:test_vit", sha256_file(weights))
    assert entry.attributes.preprocess.startswith("bicubic 168 (pil), centre crop 160, mean 0.5 0.5 0.5")
    model = timm.create_model("test_vit", num_classes=0).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.inference_mode():
        expected = model(transform(Image.open(picture))[None]).numpy()
    np.testing.assert_allclose(entry.features, expected, rtol=1e-3, atol=1e-4)
    reference = load_reference_encoder("timm:test_vit", sha256_file(weights), weights=weights, device="cpu")
    np.testing.assert_allclose(reference.encode_images([picture]), expected, rtol=1e-3, atol=1e-4)
    assert json.loads(run(picture, "--dry-run", "--json", model="timm:test_vit").out)[0]["action"] == "cached"
