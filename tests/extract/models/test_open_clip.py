"""open_clip's models: what open_clip itself computes is right. Tiny random ones, saved here; nothing is downloaded."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from clipcache.cache.common.errors import ModelError, UsageError
from clipcache.cache.common.hashing import DigestMemo, sha256_file
from clipcache.cache.format.names import canonical_model
from clipcache.cli import cli
from clipcache.extract.models import open_clip as encoders
from clipcache.extract.models import open_clip_registry
from clipcache.extract.models.contract import check_encoder
from clipcache.extract.models.frame_encoder import FrameEncoder
from clipcache.extract.models.placement import Placement
from clipcache.extract.models.prompts import load_reference_encoder
from clipcache.extract.models.registry import find_weights, open_encoder
from extract_runs import Cli
from PIL import Image

pytestmark = pytest.mark.once

pytest.importorskip("open_clip")
open_clip = encoders.import_open_clip()

CPU = Placement("cpu", "fp32", 4)
TINY = "open_clip:tiny-test,resize=shortest"  # of weights without a tag: their preprocessing must be said
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
VIT = {"embed_dim": 24, "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16}, "text_cfg": TEXT}
SIGLIP_LIKE = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 64, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
    "text_cfg": TEXT,
}
RESNET = {
    "embed_dim": 40,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "patch_size": None},
    "text_cfg": TEXT,
}


def save(folder: Path, config: dict[str, Any], seed: int = 0, **preprocessing: Any) -> Path:
    """A folder as open_clip saves it for the hub; its weights file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    torch.manual_seed(seed)
    with encoders._quietly():
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    for parameter in model.parameters():  # wide enough for one activation to give other features than another
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`open_clip:tiny-test` and `open_clip:tiny-test-quickgelu` in open_clip's registry, and weights that fit both."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "tiny-test.json").write_text(json.dumps(VIT))
    (folder / "tiny-test-quickgelu.json").write_text(json.dumps(VIT | {"quick_gelu": True}))
    paths, configs = open_clip.factory._MODEL_CONFIG_PATHS, dict(open_clip.factory._MODEL_CONFIGS)
    open_clip.add_model_config(folder)
    yield save(tmp_path_factory.mktemp("weights"), VIT).rename(folder / "tiny.pt")
    paths.remove(folder)
    open_clip.factory._MODEL_CONFIGS = configs


@pytest.fixture
def published(architectures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights as `open_clip:tiny-test/tag`, trained with GELU; the registry lists them by their checksum."""
    url = f"https://nowhere.invalid/tiny-{sha256_file(architectures)[:8]}.pt"
    entry = {"url": url, "file": str(architectures), "mean": (0.5,) * 3, "std": (0.25,) * 3, "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-test", {"tag": entry})
    return architectures


def cosines(a: Any, b: Any) -> Any:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def expected_images(model_name: str, weights: Path, pictures: list[Image.Image], **preprocessing: Any) -> Any:
    """open_clip from end to end: its model, its transform."""
    with encoders._quietly():
        pretrained = None if model_name.startswith("local-dir:") else str(weights)
        model, _, transform = open_clip.create_model_and_transforms(model_name, pretrained, **preprocessing)
    with torch.inference_mode():
        batch = torch.stack([transform(picture) for picture in pictures])
        return model.eval().encode_image(batch).numpy(), model


SQUASH = {"mean": [0.5] * 3, "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.mark.parametrize(
    ("config", "preprocessing"),
    [
        (VIT, {}),
        (VIT | {"quick_gelu": True}, {}),
        (RESNET, {"resize_mode": "longest", "fill_color": 100}),
        (SIGLIP_LIKE, SQUASH),
    ],
    ids=["vit", "quickgelu", "resnet", "siglip"],
)
def test_features_are_open_clips_own(tmp_path: Path, config: Any, preprocessing: Any) -> None:
    weights = save(tmp_path / "tiny", config, **preprocessing)
    paths = []
    for number, size in enumerate([(100, 90), (40, 130), (300, 200)]):
        paths.append(tmp_path / f"{number}.png")
        Image.effect_noise(size, 90).convert("RGB").save(paths[-1])
    name = f"local-dir:{tmp_path / 'tiny'}"
    encoder = load_reference_encoder(name, sha256_file(weights), device="cpu", weights=weights)
    expected, model = expected_images(name, weights, [Image.open(path) for path in paths])
    assert cosines(encoder.encode_images(paths), expected).min() > 0.9999
    prompts = ["a dog", "two red circles"]
    with torch.inference_mode():
        texts = model.encode_text(open_clip.get_tokenizer(name)(prompts)).numpy()
    np.testing.assert_allclose(encoder.encode_texts(prompts), texts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [VIT, SIGLIP_LIKE], ids=["vit", "siglip"])
def test_the_contract_is_kept(tmp_path: Path, config: Any) -> None:
    save(tmp_path, config)
    encoder = open_encoder(find_weights(f"local-dir:{tmp_path}", None, DigestMemo()), CPU)
    check_encoder(encoder)
    assert encoder.spec.logit_scale == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    ("config", "pooling", "bias"),
    [
        (VIT, "tok", 0.0),
        (VIT | {"vision_cfg": VIT["vision_cfg"] | {"pool_type": "avg"}}, "avg", 0.0),
        (RESNET, "attention pooling", 0.0),
        (SIGLIP_LIKE | {"init_logit_bias": -10.25}, "avg", -10.25),
    ],
    ids=["vit", "average", "resnet", "siglip"],
)
def test_pooling_and_bias_are_known(tmp_path: Path, config: Any, pooling: str, bias: float) -> None:
    save(tmp_path, config)
    encoder = FrameEncoder(find_weights(f"local-dir:{tmp_path}", None, DigestMemo()), CPU)
    assert (encoder.pooling, encoder.logit_bias, encoder.normalization) == (pooling, bias, "none")


@pytest.mark.parametrize("config", [VIT, SIGLIP_LIKE], ids=["vit", "siglip"])
def test_bf16_stays_close_and_needs_no_text(tmp_path: Path, config: Any) -> None:
    save(tmp_path, config)
    weights = find_weights(f"local-dir:{tmp_path}", None, DigestMemo())
    size = config["vision_cfg"]["image_size"]
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
    exact = FrameEncoder(weights, CPU).encode(pictures).result()
    close = FrameEncoder(weights, Placement("cpu", "bf16", 4)).encode(pictures).result()
    assert close.dtype == np.float32
    assert cosines(exact, close).min() > 0.999
    lean = open_encoder(weights, CPU, texts=False)
    assert {name for name, _ in lean._model.named_children()} == {"visual"}  # type: ignore[attr-defined]


@pytest.mark.skipif(not torch.cuda.is_available() and not os.environ.get("FAIL_WITHOUT_CUDA"), reason="no CUDA device")
@pytest.mark.parametrize("config", [VIT, SIGLIP_LIKE], ids=["vit", "siglip"])
def test_cuda_gives_the_features_of_the_cpu(tmp_path: Path, config: Any) -> None:
    save(tmp_path, config)
    weights = find_weights(f"local-dir:{tmp_path}", None, DigestMemo())
    size = config["vision_cfg"]["image_size"]
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
    exact = FrameEncoder(weights, CPU).encode(pictures).result()
    found = FrameEncoder(weights, Placement("cuda", "fp16", 4)).encode(pictures.pin_memory()).result()
    assert cosines(exact, found).min() > 0.999
    check_encoder(open_encoder(weights, Placement("cuda", "fp32", 4)), "cuda")


def test_a_tag_brings_its_preprocessing(published: Path) -> None:
    found = find_weights("open_clip:tiny-test/tag", None, DigestMemo())
    assert (found.model, found.path, found.sha256) == ("open_clip:tiny-test/tag", published, sha256_file(published))
    spec = open_encoder(found, CPU).spec
    assert (spec.mean, spec.std, spec.resize.mode) == ((0.5,) * 3, (0.25,) * 3, "squash")
    known = open_encoder(find_weights("open_clip:tiny-test", published, DigestMemo()), CPU).spec  # by its checksum
    assert (known.mean, known.std, known.resize.mode) == (spec.mean, spec.std, "squash")
    assert known.name == "open_clip:tiny-test"


# Preprocessing is never guessed.


def finetuned(path: Path, weights: Path) -> Path:
    """Weights of the same architecture that nobody knows by their checksum."""
    state = torch.load(weights, weights_only=True)
    state["logit_scale"] += 1
    torch.save(state, path)
    return path


def test_a_file_of_ones_own_has_the_preprocessing_that_the_name_says(published: Path, tmp_path: Path) -> None:
    mine = finetuned(tmp_path / "mine.pt", published)
    with pytest.raises(UsageError, match=r"Nothing says how pictures.*open_clip:tiny-test/TAG \(tag\).*mean=0\.5"):
        find_weights("open_clip:tiny-test", mine, DigestMemo())
    pictures = [Image.effect_noise(size, 90).convert("RGB") for size in [(100, 90), (40, 130), (300, 200)]]
    named = {
        "open_clip:tiny-test/tag": {"image_mean": (0.5,) * 3, "image_std": (0.25,) * 3, "image_resize_mode": "squash"},
        "open_clip:tiny-test,resize=shortest": {},
        "open_clip:tiny-test,mean=0.5,std=0.5:0.6:0.7,resize=longest,interpolation=bilinear": {
            "image_mean": (0.5,) * 3,
            "image_std": (0.5, 0.6, 0.7),
            "image_resize_mode": "longest",
            "image_interpolation": "bilinear",
        },
    }
    for name, preprocessing in named.items():
        found = find_weights(name, mine, DigestMemo())
        assert found.model == name  # what entries record leads back to the same preprocessing
        model = load_reference_encoder(name, sha256_file(mine), device="cpu", weights=mine)
        expected, _ = expected_images("tiny-test", mine, pictures, **preprocessing)
        found_features = model.encode_images([np.asarray(picture) for picture in pictures])
        assert cosines(found_features, expected).min() > 0.9999, name


def test_what_was_published_with_clips_preprocessing_alone_has_it(
    architectures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = {"url": "https://nowhere.invalid/a.pt", "mean": [0.48145466, 0.4578275, 0.40821073]}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-test", {"a": clips, "b": {"hf_hub": "org/b/"}})
    spec = open_encoder(find_weights("open_clip:tiny-test", architectures, DigestMemo()), CPU).spec
    assert spec.describe_preprocessing("pil").startswith("clip:")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-test", {"a": clips, "b": {"resize_mode": "squash"}})
    with pytest.raises(UsageError, match="Nothing says how pictures"):
        find_weights("open_clip:tiny-test", architectures, DigestMemo())


@pytest.mark.parametrize(("arch", "is_clear"), [("ViT-B-32", True), ("RN50", True), ("ViT-B-16-SigLIP", False)])
def test_open_clips_own_architectures(arch: str, is_clear: bool) -> None:
    if is_clear:
        assert open_clip_registry.preprocessing_of(open_clip, f"open_clip:{arch}", "0" * 64) == {}
        return
    with pytest.raises(UsageError, match=f"open_clip:{arch}/TAG"):
        open_clip_registry.preprocessing_of(open_clip, f"open_clip:{arch}", "0" * 64)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("size=224", "option 'size'.*mean, std, resize, interpolation"),
        ("mean=grey", "'grey' is not one number"),
        ("std=0.5:0.5", "'0.5:0.5' is not one number"),
        ("mean=nan", "'nan' is not"),
        ("resize=crop", "resize mode 'crop'.*squash"),
        ("interpolation=lanczos", "filter 'lanczos'"),
    ],
)
def test_preprocessing_that_does_not_exist_is_one_sentence(architectures: Path, option: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        find_weights(f"open_clip:tiny-test,{option}", architectures, DigestMemo())


@pytest.mark.parametrize("wrapped", ["prefix", "ema"])
def test_a_checkpoint_that_open_clip_does_not_unwrap_is_unwrapped(
    architectures: Path, tmp_path: Path, wrapped: str
) -> None:
    state = torch.load(architectures, weights_only=True)
    inner = {f"clip.{name}": value for name, value in state.items()}
    torch.save(inner if wrapped == "prefix" else {"ema": inner, "epoch": 3}, tmp_path / "w.pt")
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8))
    right, found = (
        FrameEncoder(find_weights(TINY, path, DigestMemo()), CPU).encode(pictures).result()
        for path in (architectures, tmp_path / "w.pt")
    )
    np.testing.assert_array_equal(right, found)
    del inner["clip.ln_final.bias"]
    torch.save(inner, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"lacks 'positional_embedding'.*has in excess 'clip\."):
        open_encoder(find_weights(TINY, tmp_path / "w.pt", DigestMemo()), CPU)


def test_prompts_need_no_network_where_the_tokenizer_lies_in_the_models_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "dog": 4, "cat": 5}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    config = SIGLIP_LIKE | {"text_cfg": TEXT | {"hf_tokenizer_name": "nobody/nothing"}}
    save(tmp_path / "mine", config)
    encoder = open_encoder(find_weights(f"local-dir:{tmp_path / 'mine'}", None, DigestMemo()), CPU)
    with pytest.raises(ModelError, match=r"tokenizer's files.*--model local-dir:FOLDER"):
        encoder.encode_texts(["a dog"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")  # noqa: S106
    fast.save_pretrained(tmp_path / "mine")
    encoder = open_encoder(find_weights(f"local-dir:{tmp_path / 'mine'}", None, DigestMemo()), CPU)
    dog, cat = encoder.encode_texts(["a dog", "a cat"])
    assert not np.allclose(dog, cat)


# QuickGELU.


def test_the_wrong_activation_is_refused_by_tag(architectures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"hf_hub": "org/tiny/", "quick_gelu": True}
    for arch in ("tiny-test", "tiny-test-quickgelu"):
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, arch, {"tag": entry})
    with pytest.raises(UsageError, match=r"trained with QuickGELU.*--model open_clip:tiny-test-quickgelu/tag"):
        find_weights("open_clip:tiny-test/tag", architectures, DigestMemo())
    assert find_weights("open_clip:tiny-test-quickgelu/tag", architectures, DigestMemo()).path == architectures


def test_the_wrong_activation_is_refused_by_checksum(published: Path) -> None:
    with pytest.raises(UsageError, match=r"trained with GELU.*computes QuickGELU.*--model open_clip:tiny-test/tag"):
        find_weights("open_clip:tiny-test-quickgelu", published, DigestMemo())


def test_the_activation_makes_the_difference_that_is_feared(architectures: Path) -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8))
    gelu, quick = (
        FrameEncoder(find_weights(model, architectures, DigestMemo()), CPU).encode(pictures).result()
        for model in (TINY, TINY.replace("test,", "test-quickgelu,"))
    )
    assert not np.allclose(gelu, quick, rtol=1e-3, atol=1e-4)


def test_every_mismatch_of_the_registry_has_a_way_out() -> None:
    """OpenAI's tags under plain architectures are the classic one; the name given instead must itself be accepted."""
    refused = {}
    for arch, _, name, entry in open_clip_registry.registry(open_clip):
        if right := open_clip_registry.right_names(open_clip, arch, entry):
            refused[name] = right[0]
    assert refused["open_clip:ViT-B-32/openai"] == "open_clip:ViT-B-32-quickgelu/openai"
    assert refused.keys().isdisjoint(refused.values())
    assert "open_clip:ViT-B-32/laion2b_s34b_b79k" not in refused
    assert "open_clip:roberta-ViT-B-32/laion2b_s12b_b32k" not in refused  # the registry's only word on it


# Names and files that do not do.


def offline(*_: Any, **__: Any) -> Any:
    raise OSError("no route to host\nand a second line")


@pytest.mark.parametrize(
    ("model", "error", "sentence"),
    [
        ("open_clip:ViT-B-23", UsageError, "no architecture 'ViT-B-23'.*ViT-B-32"),
        ("open_clip:ViT-B-32/nonsense", UsageError, "no weights 'nonsense'.*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", UsageError, "--weights FILE.*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", ModelError, "cannot be downloaded .*--weights"),
        ("hf-hub:org/name", ModelError, "cannot be downloaded .*local-dir:"),
        ("local-dir:nowhere", ModelError, "open_clip_config.json in 'nowhere'"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, model: str, error: type[Exception], sentence: str
) -> None:
    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", offline)
    with pytest.raises(error, match=sentence) as caught:
        find_weights(model, None, DigestMemo())
    assert "\n" not in str(caught.value)


def test_a_folder_must_hold_one_weights_file(tmp_path: Path) -> None:
    path = save(tmp_path, VIT)
    name = f"local-dir:{tmp_path}"
    other = path.rename(tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes(other.read_bytes())
    with pytest.raises(ModelError, match=r"several weights files \(a.bin, b.bin\).*--weights"):
        find_weights(name, None, DigestMemo())
    assert find_weights(name, other, DigestMemo()).path == other
    other.unlink()
    (tmp_path / "b.bin").unlink()
    with pytest.raises(ModelError, match="no weights"):
        find_weights(name, None, DigestMemo())


@pytest.mark.parametrize("content", [b"", b"no weights", b"another model"])
def test_weights_of_something_else_are_one_sentence(tmp_path: Path, architectures: Path, content: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    if content == b"another model":
        torch.save({"encoder.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"w\.pt' cannot be loaded as open_clip's tiny-test") as caught:
        open_encoder(find_weights(TINY, path, DigestMemo()), CPU)
    assert "\n" not in str(caught.value)


def test_oblong_pictures_are_refused(tmp_path: Path) -> None:
    save(tmp_path, VIT | {"vision_cfg": VIT["vision_cfg"] | {"image_size": [48, 32]}})
    with pytest.raises(ModelError, match="32x48"):
        open_encoder(find_weights(f"local-dir:{tmp_path}", None, DigestMemo()), CPU)


def test_without_the_extra_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"pip install 'clipcache\[open-clip\]'"):
        find_weights("hf-hub:org/name", None, DigestMemo())


def test_prompts_that_are_too_long_are_named_not_cut(architectures: Path) -> None:
    encoder = open_encoder(find_weights(TINY, architectures, DigestMemo()), CPU)
    longest = "dog " * 14  # and a token before and after: 16
    encoder.encode_texts([longest])
    with pytest.raises(ModelError, match=r"dog dog.* 17 tokens.*16 tokens.*--truncate"):
        encoder.encode_texts(["short", longest + "dog"])
    assert encoder.encode_texts([longest + "dog"], truncate=True).shape == (1, 24)


@pytest.mark.parametrize("mode", ["", "clips"])
def test_a_cut_is_seen_whatever_the_tokenizer(mode: str) -> None:
    """Hugging Face's tokenizers pad with a token of their own, end cut prompts properly, and some add a last one."""

    class Tokenizer:
        context_length = 6
        tokenizer_mode = mode

        def __call__(self, texts: list[str], context_length: int = 6) -> Any:
            room = context_length - (1 if mode else 0)
            rows = [[1, *[5] * min(len(text.split()), room - 2), 2] for text in texts]
            return torch.tensor([row + [9] * (room - len(row)) + ([7] if mode else []) for row in rows])

    fits = 3 if mode else 4
    assert not encoders._is_cut(Tokenizer(), "word " * fits)
    assert encoders._is_cut(Tokenizer(), "word " * (fits + 1))


# From end to end.


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_video_is_extracted_and_scored(
    tmp_path: Path,
    published: Path,
    synthetic_video: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import av

    video = synthetic_video("h264_closed_gop").path
    extract = Cli(tmp_path / "cache", published, monkeypatch, capsys)
    words = (video, "--dtype", "float32", "--num-workers", "1")
    assert extract(*words, model="open_clip:tiny-test/tag").code == 0
    (entry,) = extract.entries.values()
    assert entry.attributes.model == "open_clip:tiny-test/tag"
    assert entry.attributes.preprocess.startswith("bicubic 48x48")
    assert "mean 0.5 0.5 0.5, std 0.25 0.25 0.25" in entry.attributes.preprocess
    assert (entry.path.parts[-3]).startswith("open_clip-tiny-test-tag-")
    with av.open(str(video)) as container:
        pictures = [frame.to_image() for frame in container.decode(video=0)]
    how = {"image_mean": (0.5,) * 3, "image_std": (0.25,) * 3, "image_resize_mode": "squash"}
    expected, model = expected_images("tiny-test", published, pictures, **how)
    assert cosines(np.asarray(entry.features), expected).min() > 0.9999

    score = run("score", "--cache", tmp_path / "cache", "--text", "a dog", "--format", "json", "--weights", published)
    (row,) = json.loads(score.stdout)
    with torch.inference_mode():
        text = model.encode_text(open_clip.get_tokenizer("tiny-test")(["a dog"])).numpy()
    assert row["mean_cosine"] == pytest.approx(float(cosines(expected, text).mean()), abs=1e-4)


def test_a_model_in_a_folder_may_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save(tmp_path / "here" / "mine", VIT)
    os.utime(weights, (1, 1))  # old enough for the memo to be believed
    picture = tmp_path / "a.png"
    Image.effect_noise((60, 60), 80).convert("RGB").save(picture)
    extract = Cli(tmp_path / "cache", weights, monkeypatch, capsys)
    model = f"local-dir:{tmp_path}/here/mine"
    assert extract(picture, model=model).code == 0
    (entry,) = extract.entries.values()
    assert entry.attributes.model == "local-dir:mine" == canonical_model(model)
    words = ["score", picture, "--cache", tmp_path / "cache", "--format", "json", "--text"]
    before = json.loads(run(*words, "a dog", "--model", model).stdout)
    assert before == json.loads(run(*words, "a dog").stdout)
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        run(*words, "a cat")
    moved = tmp_path / "there" / "mine" / weights.name
    assert run(*words, "a cat", "--weights", moved).exit_code == 0
