"""How well the tiny CLIP knows its world: `python -m clipcache.demo.training.evaluate demo.npz`.

The file is loaded as a user would load it (float16 through `clip.model.build_model`, OpenAI's tokenizer and OpenAI's
preprocessing) and asked about freshly rendered pictures in words that it was not trained with.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..scenes import COLORS, SHAPES, Scene, render
from .random_scenes import FAULTS, random_qualities, random_scene, suits
from .weights import load_state
from .words import HELD_OUT_PAIRS, HELD_OUT_QUALITY_TEMPLATES, HELD_OUT_TEMPLATES, QUALITY_PAIRS

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    import clip
    import clip.model

PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
SIZES = ((224, 224), (320, 240), (640, 360))
EVERYDAY = ("blurry", "noisy", "dark", "bright", "low contrast", "high contrast", "colourful")
UNRELATED = (
    "a dog on a beach",
    "a photo of a car",
    "two people talking",
    "a bowl of soup",
    "an airplane over mountains",
    "a diagram of the stock market",
)
TYPED_PAIRS = (
    ("a sharp photo", "a blurry photo"),
    ("a bright photo", "a dark photo"),
    ("a high contrast photo", "a low contrast photo"),
    ("a colorful photo", "a grey photo"),
    ("a clean photo", "a noisy photo"),
    ("a well framed photo", "a photo with the subject cut off at the edge"),
    ("a professional photo of high quality", "an amateur snapshot of low quality"),
)
AESTHETIC = (
    ("well framed", "cut off", "a well composed photo", "poor framing"),
    ("well framed", "cut off", "a photo with good composition", "a photo with poor composition"),
    ("well framed", "cut off", "the subject is well placed", "the subject is badly placed"),
    ("well framed", "cut off", "a photo with clean cropping", "a photo with awkward cropping"),
    ("good", "bad", "professional photography", "amateur snapshot"),
    ("good", "bad", "a high quality photo", "a low quality photo"),
    ("good", "bad", "a beautiful, well composed photo", "an ugly, poorly composed photo"),
)


class Model:
    """A CLIP from the file, for pixels and words."""

    def __init__(self, path: Path) -> None:
        self.clip: Any = clip.model.build_model(load_state(path)).float().eval().requires_grad_(False)
        self._preprocess: Any = clip.clip._transform(self.clip.visual.input_resolution)

    @torch.inference_mode()
    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Normalised features of RGB pictures of any size."""
        parts = []
        for start in range(0, len(pictures), 128):
            chunk = [self._preprocess(Image.fromarray(p)) for p in pictures[start : start + 128]]
            parts.append(self.clip.encode_image(torch.stack(chunk)))
        features = torch.cat(parts)
        return features / features.norm(dim=-1, keepdim=True)

    @torch.inference_mode()
    def texts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Normalised features of prompts."""
        features = self.clip.encode_text(clip.tokenize(list(prompts)))
        return features / features.norm(dim=-1, keepdim=True)


def named(color: str, shape: str) -> str:
    """Say "a red circle"."""
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {shape}"


def subject_scenes(rng: np.random.Generator, each: int, *, everyday: bool) -> list[tuple[int, Scene]]:
    """Scenes of every colour and shape, whole in the frame; everyday ones have up to one deviation each."""
    found: list[tuple[int, Scene]] = []
    for number, pair in enumerate(PAIRS):
        for _ in range(each):
            framing = str(rng.choice(("centred", "anywhere")))
            scene = random_scene(rng, subject=pair, framing=framing, deviations=())
            name = str(rng.choice(EVERYDAY))
            if everyday and rng.random() < 0.5 and suits(name, scene.background):
                scene = Scene(scene.things, scene.background, random_qualities(rng, (name,)))
            found.append((number, scene))
    return found


def quality_scenes(rng: np.random.Generator, pair: tuple[str, str], number: int) -> list[tuple[int, Scene]]:
    """Scenes with the first quality (0) and with the second (1), otherwise plain and good."""
    found: list[tuple[int, Scene]] = []
    while len(found) < 2 * number:
        for side, name in enumerate(pair):
            found.append((side, _quality_scene(rng, name)))
    return found


def _quality_scene(rng: np.random.Generator, name: str) -> Scene:
    framing = "cut off" if name in ("cut off", "bad") else "centred" if name in ("well framed", "good") else None
    colors = [color for color in COLORS if color not in ("white", "black")]
    while True:
        subject = str(rng.choice(colors)), str(rng.choice(SHAPES))
        scene = random_scene(rng, count=1, subject=subject, framing=framing or "anywhere", deviations=())
        wanted = str(rng.choice(("blurry", "noisy", "low contrast"))) if name == "bad" else name
        deviations = (wanted,) if wanted in FAULTS else ()
        if all(suits(one, scene.background) for one in deviations):
            break
    if name in ("clean", "noisy") and scene.background.kind == "noisy":
        return _quality_scene(rng, name)
    return Scene(scene.things, scene.background, random_qualities(rng, deviations))


def pictures(scenes: Sequence[tuple[int, Scene]], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Draw scenes at the sizes of several videos."""
    return [render(scene, SIZES[rng.integers(len(SIZES))], rng) for _, scene in scenes]


def compressed(frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Send pictures of one size through H.264, three frames each, and take the last of each."""
    import av

    height, width = frames[0].shape[:2]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        stream: Any = target.add_stream("libx264", rate=25, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            for _ in range(3):
                target.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        target.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as source:
        decoded = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    return decoded[2::3]


def accuracy(features: torch.Tensor, prompts: torch.Tensor, answers: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the right prompt is the best, for each picture."""
    best: NDArray[np.int_] = (features @ prompts.T).argmax(dim=1).numpy()
    right: NDArray[np.bool_] = best == np.asarray(answers)
    return right


def subject_results(model: Model, rng: np.random.Generator, each: int) -> dict[str, float]:
    """Top-1 of colour and shape among all 70, with held-out phrasings and with what people type."""
    results = {}
    held = np.array([pair in HELD_OUT_PAIRS for pair in PAIRS])
    for kind in ("plain good pictures", "everyday pictures"):
        scenes = subject_scenes(rng, each, everyday=kind.startswith("every"))
        answers = np.array([number for number, _ in scenes])
        features = model.images(pictures(scenes, rng))
        for said, templates in (("held-out phrasings", HELD_OUT_TEMPLATES), ("a photo of", ("a photo of {}",))):
            right = _over_templates(model, features, answers, templates)
            results[f"{kind}, {said}: all"] = float(right.mean())
            results[f"{kind}, {said}: held-out combinations"] = float(right[:, held[answers]].mean())
    frames = [render(scene, (320, 240), rng) for _, scene in scenes]
    right = _over_templates(model, model.images(compressed(frames)), answers, HELD_OUT_TEMPLATES)
    results["everyday pictures after H.264, held-out phrasings: all"] = float(right.mean())
    results["everyday pictures after H.264, held-out phrasings: held-out combinations"] = float(
        right[:, held[answers]].mean()
    )
    return results


def _over_templates(
    model: Model, features: torch.Tensor, answers: NDArray[np.int_], templates: Sequence[str]
) -> NDArray[np.bool_]:
    prompts = [model.texts([template.format(named(*pair)) for pair in PAIRS]) for template in templates]
    return np.stack([accuracy(features, texts, answers.tolist()) for texts in prompts])


def quality_results(model: Model, rng: np.random.Generator, number: int) -> dict[str, float]:
    """How often the right one of two words wins."""
    results = {}
    for pair, typed in zip(QUALITY_PAIRS, TYPED_PAIRS, strict=True):
        scenes = quality_scenes(rng, pair, number)
        answers = [side for side, _ in scenes]
        features = model.images(pictures(scenes, rng))
        prompts = [model.texts([template.format(word) for word in pair]) for template in HELD_OUT_QUALITY_TEMPLATES]
        right = np.stack([accuracy(features, texts, answers) for texts in prompts])
        name = " / ".join(pair)
        results[f"{name}, held-out phrasings"] = float(right.mean())
        results[f"{name}, worst phrasing"] = float(right.mean(axis=1).min())
        results[f'{name}, "{typed[0]}"'] = float(accuracy(features, model.texts(typed), answers).mean())
        frames = compressed([render(scene, (320, 240), rng) for _, scene in scenes])
        results[f"{name}, after H.264"] = float(accuracy(model.images(frames), model.texts(typed), answers).mean())
        for first, second, good, bad in AESTHETIC:
            if (first, second) == pair:
                results[f'"{good}" / "{bad}"'] = float(accuracy(features, model.texts([good, bad]), answers).mean())
    return results


def other_results(model: Model, rng: np.random.Generator, number: int) -> dict[str, float]:
    """Backgrounds, numbers, things of another world."""
    scenes = [random_scene(rng, subject=PAIRS[rng.integers(len(PAIRS))], deviations=()) for _ in range(number)]
    features = model.images([render(scene) for scene in scenes])
    right = (features * model.texts([named(s.things[0].color, s.things[0].shape) for s in scenes])).sum(dim=1)
    strange = features @ model.texts(UNRELATED).T
    results = {
        "right prompt above all six unrelated ones": float((right > strange.max(dim=1).values).float().mean()),
        "mean cosine of the right prompt": float(right.mean()),
        "mean cosine of unrelated prompts": float(strange.mean()),
    }
    results["red circle on a dark / bright background"] = _dark_background(model, rng, number)
    results["two green squares / a green square"] = _counts(model, rng, number)
    results["a red circle and a blue square / a blue circle and a red square"] = _bindings(model, rng, number)
    return results


def _dark_background(model: Model, rng: np.random.Generator, number: int) -> float:
    found: list[tuple[int, Scene]] = []
    while len(found) < number:
        scene = random_scene(rng, subject=("red", "circle"), framing="anywhere", deviations=())
        if not 70 < scene.background.luma < 185:
            found.append((int(scene.background.luma >= 185), scene))
    prompts = model.texts(["red circle on a dark background", "red circle on a bright background"])
    return float(accuracy(model.images(pictures(found, rng)), prompts, [side for side, _ in found]).mean())


def _counts(model: Model, rng: np.random.Generator, number: int) -> float:
    found: list[tuple[int, Scene]] = []
    while len(found) < number:
        scene = random_scene(rng, count=2, subject=("green", "square"), deviations=())
        if scene.things[1].shape == "square" and scene.things[1].color == "green":
            one = random_scene(rng, subject=("green", "square"), framing="anywhere", deviations=())
            found += [(0, scene), (1, one)]
    prompts = model.texts(["two green squares", "one green square"])
    return float(accuracy(model.images(pictures(found, rng)), prompts, [side for side, _ in found]).mean())


def _bindings(model: Model, rng: np.random.Generator, number: int) -> float:
    found = []
    for n in range(number):
        scene = random_scene(rng, count=2, subject=("red", "circle"), deviations=())
        colors = ("red", "blue") if n % 2 == 0 else ("blue", "red")
        kinds = zip(scene.things, ("circle", "square"), colors, strict=True)
        things = [replace(thing, shape=shape, color=color) for thing, shape, color in kinds]
        background = random_scene(rng, subject=("red", "circle"), deviations=()).background
        found.append((n % 2, Scene(tuple(things), replace(background, rgb=(200, 200, 200), other=(230, 230, 230)))))
    prompts = model.texts(["a red circle and a blue square", "a blue circle and a red square"])
    return float(accuracy(model.images(pictures(found, rng)), prompts, [side for side, _ in found]).mean())


def evaluate(path: Path, *, seed: int = 1, few: bool = False) -> dict[str, float]:
    """All results of a model's file, by name."""
    model, rng = Model(path), np.random.default_rng([seed, 99])
    results = subject_results(model, rng, 3 if few else 30)
    results |= quality_results(model, rng, 30 if few else 250)
    return results | other_results(model, rng, 50 if few else 400)


def report(path: Path, *, seed: int = 1, few: bool = False) -> str:
    """The results as the rows of a table."""
    rows = [f"| {name} | {value:.3f} |" for name, value in evaluate(path, seed=seed, few=few).items()]
    return "\n".join(["| what | result |", "| --- | --- |", *rows])


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--seed", default=1, show_default=True)
@click.option("--few", is_flag=True, help="Fewer pictures, in seconds.")
def main(path: Path, seed: int, few: bool) -> None:
    """Print the held-out accuracies of a model's file."""
    click.echo(report(path, seed=seed, few=few))


if __name__ == "__main__":
    main()
