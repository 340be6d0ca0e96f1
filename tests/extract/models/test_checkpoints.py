"""Checkpoints in the forms in which people have them: wrapped, with prefixes, and in Hugging Face's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clipcache.cache.common.errors import ModelError
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.extract import load_model
from clipcache.extract.models.frame_encoder import FrameEncoder
from clipcache.extract.models.hugging_face import identity
from clipcache.extract.models.openai import OpenAIClip
from clipcache.extract.models.placement import Placement
from clipcache.extract.models.registry import find_weights
from numpy.testing import assert_allclose
from safetensors.torch import save_file
from tiny_models import tiny_clip_state_dict

pytestmark = pytest.mark.once

CPU = Placement("cpu", "fp32", 8)
PROMPTS = ["a dog", "two red circles on a table, a very small one"]


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return tiny_clip_state_dict(input_size=64, patch_size=16, half=False)


@pytest.fixture(scope="module")
def plain(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """The features that all of these files must give."""
    path = tmp_path_factory.mktemp("plain") / "plain.pt"
    torch.save(state, path)
    return features(path)


def pictures(size: int = 64) -> Any:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8))


def features(path: Path, size: int = 64) -> np.ndarray[Any, Any]:
    """Of pictures and of prompts, below each other."""
    encoder = OpenAIClip(find_weights("mine", path, DigestMemo()), CPU)
    with torch.inference_mode():
        images = encoder.encode_images(pictures(size)).numpy()
    return np.concatenate([images, encoder.encode_texts(PROMPTS)])


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def save(path: Path, content: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["module.", "clip_model.", "model.", "clip.", "_orig_mod.module.", "net.encoder."])
def test_a_prefix_before_every_name_is_taken_off(
    tmp_path: Path, state: dict[str, Any], plain: Any, prefix: str, suffix: str
) -> None:
    assert_allclose(features(save(tmp_path / f"w{suffix}", under(prefix, state))), plain, atol=1e-6)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "ema", "anything"])
def test_a_state_dict_inside_a_dictionary_is_found(tmp_path: Path, state: dict[str, Any], plain: Any, key: str) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    content = {key: under("module.", state), "optimizer": optimizer, "epoch": 3}
    assert_allclose(features(save(tmp_path / "w.pt", content)), plain, atol=1e-6)


def test_of_several_sets_of_weights_the_average_is_taken_and_said(
    tmp_path: Path, state: dict[str, Any], plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    content = {"model": tiny_clip_state_dict(5, input_size=64, patch_size=16), "ema": state}
    assert_allclose(features(save(tmp_path / "w.pt", content)), plain, atol=1e-6)
    assert "those of 'ema' are taken, not those of 'model'" in caplog.text


def test_what_stands_beside_a_clip_is_left_out_and_said(
    tmp_path: Path, state: dict[str, Any], plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    content = under("clip_model.", state) | {"classifier.weight": torch.zeros(10, 512)}
    assert_allclose(features(save(tmp_path / "w.pt", content)), plain, atol=1e-6)
    assert "left out: 'classifier.weight'" in caplog.text


def without(state: dict[str, Any], *parts: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith(parts)}


def text_apart(state: dict[str, Any]) -> dict[str, Any]:
    return {name if name.startswith("visual.") else f"text.{name}": value for name, value in state.items()}


LORA = {"base_model.model.visual.proj.lora_A.weight": torch.zeros(4, 4)}
OTHERS = {
    "only a part": (lambda state: without(state, "visual.ln_p"), r"lacks 'visual\.ln_pre\.weight'.* and 1 more"),
    "a first name": (lambda state: without(state, "ln_final"), "lacks 'ln_final.weight'"),
    "no scale": (lambda state: without(state, "logit_scale"), "lacks 'logit_scale'"),
    "too much": (lambda state: state | {"prompt.ctx": torch.zeros(4)}, "has in excess 'prompt.ctx'"),
    "another shape": (lambda state: state | {"visual.ln_post.bias": torch.zeros(4)}, "shape of 'visual.ln_post.bias'"),
    "vision only": (lambda state: {k: v for k, v in state.items() if k.startswith("visual.")}, "without the text enc"),
    "text only": (lambda state: without(state, "visual."), r"lacks 'visual\.conv1\.weight'.*has 'posit"),
    "LoRA": (lambda _: LORA, "holds a LoRA.*merge"),
    "LoRA in a model": (lambda state: under("base_model.model.", state) | LORA, "holds a LoRA.*merge"),
    "two models": (lambda state: under("student.", state) | under("teacher.", state), "several CLIPs, under 'student"),
    "open_clip's training": (lambda state: {"epoch": 1, "name": "ViT-B-32", "state_dict": state}, "open_clip:ARCH"),
    "open_clip's text tower": (text_apart, "lacks .*open_clip:ARCH"),
    "tensors of something else": (lambda _: {"encoder.weight": torch.zeros(3)}, "has 'encoder.weight'"),
    "a number beside them": (
        lambda _: {"step": torch.tensor(3), "model": {"a.weight": torch.zeros(3), "a.bias": torch.zeros(3)}},
        "has 'a.weight', 'a.bias'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_whole_clip_is_refused_by_its_names(tmp_path: Path, state: dict[str, Any], what: str) -> None:
    change, sentence = OTHERS[what]
    with pytest.raises(ModelError, match=sentence) as caught:
        features(save(tmp_path / "w.pt", change(state)))  # type: ignore[no-untyped-call]
    assert "w.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# Hugging Face's layout; `transformers` itself says what is right.

VISION = {"hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 2, "num_attention_heads": 5}
VISION |= {"image_size": 64, "patch_size": 16}
TEXT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_hugging_face(folder: Path, vision: dict[str, Any], text: dict[str, Any], seed: int = 0) -> Any:
    """Save a random `CLIPModel` to a folder, and return it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.CLIPConfig(vision_config=VISION | vision, text_config=TEXT | text, projection_dim=48)
    model = transformers.CLIPModel(config).eval()
    for name, parameter in model.named_parameters():  # wide enough for one activation to differ from another
        if name != "logit_scale" and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return model


def expected(model: Any) -> np.ndarray[Any, Any]:
    """What `transformers` computes."""
    import clip
    from torchvision.transforms import Normalize

    normalise = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    with torch.inference_mode():
        pixels = normalise(pictures().permute(0, 3, 1, 2) / 255)
        images = model.visual_projection(model.vision_model(pixels).pooler_output)
        texts = model.text_projection(model.text_model(clip.tokenize(PROMPTS).long()).pooler_output)
    return np.concatenate([images.numpy(), texts.numpy()])


GELU = {"hidden_act": "gelu"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", ["folder", "file", "pickle"])
@pytest.mark.parametrize(("vision", "text"), [({}, {}), (GELU, GELU), (GELU, {"eos_token_id": 49407})])
def test_hugging_faces_clip_gives_the_features_of_transformers(
    tmp_path: Path, vision: dict[str, Any], text: dict[str, Any], by: str
) -> None:
    model = write_hugging_face(tmp_path / "mine", vision, text)
    path = file = tmp_path / "mine" / "model.safetensors"
    if by == "folder":
        path = tmp_path / "mine"
    elif by == "pickle":
        path = file = save(file.with_name("finetuned.pt"), {"model": under("module.", model.state_dict())})
    assert_allclose(features(path), expected(model), rtol=1e-4, atol=1e-4)
    found = find_weights("mine", path, DigestMemo())
    assert (found.sha256, found.path) == (identity(file, sha256_file(file)), file)
    assert load_model("mine", weights=str(path), device="cpu").spec.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_gelu_in_half_precision_stays_close(tmp_path: Path) -> None:
    model = write_hugging_face(tmp_path / "mine", GELU, GELU)
    weights = find_weights("mine", tmp_path / "mine", DigestMemo())
    found = FrameEncoder(weights, Placement("cpu", "bf16", 8)).encode(pictures()).result()
    right = expected(model)[: len(found)]
    cosines = (found * right).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(right, axis=1)
    assert cosines.min() > 0.999


def test_old_configurations_leave_out_defaults_and_have_a_second_dictionary(tmp_path: Path) -> None:
    model = write_hugging_face(tmp_path, {"hidden_act": "gelu"}, {"num_attention_heads": 8})
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["text_config"]["num_attention_heads"], config["text_config"]["hidden_act"]
    config["vision_config_dict"] = {"hidden_act": config["vision_config"].pop("hidden_act")}
    config["text_config_dict"] = None
    path.write_text(json.dumps(config))
    assert_allclose(features(tmp_path), expected(model), rtol=1e-4, atol=1e-4)


def test_without_a_configuration_it_is_said_what_is_assumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = [(768, 12), (512, 8)]
    vision, text = (
        {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads, "num_hidden_layers": 1}
        for width, heads in sizes
    )
    model = write_hugging_face(tmp_path, vision, text)
    (tmp_path / "config.json").unlink()
    caplog.clear()
    assert_allclose(features(tmp_path / "model.safetensors"), expected(model), rtol=1e-3, atol=1e-3)
    assert "QuickGELU and attention heads of 64 values are assumed" in caplog.text
    write_hugging_face(tmp_path, {}, {})
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"nothing tells its activation.*config\.json"):
        features(tmp_path / "model.safetensors")


def test_one_file_with_two_configurations_is_two_models(tmp_path: Path) -> None:
    """The features differ, so entries of the one must not be taken for the other's."""
    sizes = {"hidden_size": 64, "num_attention_heads": 1}
    write_hugging_face(tmp_path, sizes, sizes)
    path, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    known = json.loads(config.read_text())

    def found() -> str:
        return find_weights("mine", path, DigestMemo()).sha256

    openais = found()
    known["vision_config"]["hidden_act"] = "gelu"
    config.write_text(json.dumps(known))
    with_gelu = found()
    known["text_config"]["num_attention_heads"] = 2
    config.write_text(json.dumps(known))
    assert len({openais, with_gelu, found()}) == 3
    config.unlink()
    assert found() == openais == sha256_file(path), "OpenAI's encoders are assumed where nothing says otherwise"


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("config.json", {"model_type": "siglip"}, "type 'siglip'"),
        ("config.json", {"vision_config": {"hidden_act": "relu"}}, "hidden_act 'relu'"),
        ("config.json", {"text_config": {"layer_norm_eps": 1e-3}}, "layer_norm_eps 0.001"),
        ("config.json", {"text_config": {"eos_token_id": 7}}, "eos_token_id 7"),
        ("config.json", {"text_config": [1]}, "configuration beside"),
        ("config.json", {"text_config": {"num_attention_heads": "many"}}, "configuration beside"),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5]}, "another image_mean"),
        ("preprocessor_config.json", {"resample": 2}, "another resample"),
        ("preprocessor_config.json", {"do_normalize": False}, "another do_normalize"),
        ("preprocessor_config.json", {"rescale_factor": 1.0}, "another rescale_factor"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 256}, "crop_size": 224}, "another size"),
    ],
)
def test_a_configuration_that_is_not_computed_is_refused(
    tmp_path: Path, file: str, change: dict[str, Any], sentence: str
) -> None:
    write_hugging_face(tmp_path, {}, {})
    path = tmp_path / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | change))
    with pytest.raises(ModelError, match=sentence):
        features(tmp_path)


def test_parts_of_hugging_faces_clip_are_refused(tmp_path: Path) -> None:
    model = write_hugging_face(tmp_path, {}, {})
    vision = {name: value for name, value in model.state_dict().items() if name.startswith("vis")}
    with pytest.raises(ModelError, match="without the text encoder"):
        features(save(tmp_path / "vision.pt", vision))
    lacking = without(model.state_dict(), "text_projection", "vision_model.encoder.layers.0.self_attn.k_proj.bias")
    with pytest.raises(ModelError, match=r"lacks .*text_projection"):
        features(save(tmp_path / "lacking.pt", lacking))


def test_a_folder_without_one_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        features(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="split into several files"):
        features(tmp_path)
