"""Train the tiny CLIP from scratch: `python -m clipcache.demo.training.train`; README.md has data, loss and results."""

from __future__ import annotations

import copy
import io
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from ..scenes import Scene, render
from .captions import Caption, all_facts, caption, facts, swapped_caption, unknown_caption, with_unknown_words
from .evaluate import report
from .muon import Muon
from .random_scenes import random_scene
from .towers import PIXELS, TEXT_LENGTH, Size, encode_captions, encode_images, new_model
from .weights import full_state, save_state
from .words import HELD_OUT_PAIRS, UNKNOWN

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    from clip.simple_tokenizer import SimpleTokenizer

BATCH = 128
FRESH = 32
POOL = 10_240


# Pictures -------------------------------------------------------------------------------------------------------------


def training_picture(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a scene as a video frame would reach the model: from another size, and compressed with loss."""
    if rng.random() >= 0.45:
        return render(scene, (PIXELS, PIXELS), rng)
    side = int(rng.integers(150, 400)) if rng.random() < 0.6 else PIXELS
    image = Image.fromarray(render(scene, (side, side), rng))
    if rng.random() < 0.7:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(35, 92)))
        image = Image.open(buffer)
    if side != PIXELS:
        image = image.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(image)


class FactIndex:
    """Facts as columns of a matrix."""

    def __init__(self) -> None:
        self.column = {name: number for number, name in enumerate(all_facts())}

    def row(self, names: frozenset[str]) -> NDArray[np.float32]:
        """One where a fact is named."""
        row = np.zeros(len(self.column), np.float32)
        row[[self.column[name] for name in names]] = 1
        return row


@dataclass
class Batch:
    """Pictures and what is true of them."""

    pixels: NDArray[np.uint8]
    scenes: list[Scene]
    true: NDArray[np.float32]
    possible: NDArray[np.float32]


class PicturePool:
    """Rendered pictures in memory, a part of which is drawn anew at each step while the model learns.

    What is drawn depends on the seed alone, not on the time that it takes.
    """

    def __init__(self, seed: int, size: int, index: FactIndex) -> None:
        self._seed, self._index, self._chunk, self._next = seed, index, 0, 0
        self._rng = np.random.default_rng([seed, 1])
        self._workers = ThreadPoolExecutor(2)
        self.pixels = np.empty((size, PIXELS, PIXELS, 3), np.uint8)
        self.scenes: list[Scene] = [Scene()] * size
        self.true = np.zeros((size, len(index.column)), np.float32)
        self.possible = np.zeros_like(self.true)
        futures = [self._start() for _ in range(size // FRESH)]
        for future in futures:
            self._store(future)
        self._ahead = self._start()

    def batch(self, size: int) -> Batch:
        """Take random pictures, turned and mirrored at random; then replace the oldest of the pool."""
        chosen = self._rng.choice(len(self.scenes), size, replace=False)
        pixels = np.empty((size, PIXELS, PIXELS, 3), np.uint8)
        for row, (source, turn) in enumerate(zip(chosen, self._rng.integers(0, 8, size), strict=True)):
            image = np.rot90(self.pixels[source], turn % 4)
            pixels[row] = image[:, ::-1] if turn > 3 else image
        batch = Batch(pixels, [self.scenes[n] for n in chosen], self.true[chosen], self.possible[chosen])
        self._store(self._ahead)
        self._ahead = self._start()
        return batch

    def _start(self) -> Future[tuple[list[Scene], list[NDArray[np.uint8]]]]:
        self._chunk += 1
        return self._workers.submit(_draw, self._seed, self._chunk)

    def _store(self, future: Future[tuple[list[Scene], list[NDArray[np.uint8]]]]) -> None:
        for scene, picture in zip(*future.result(), strict=True):
            known = facts(scene)
            self.pixels[self._next] = picture
            self.scenes[self._next] = scene
            self.true[self._next] = self._index.row(known.true)
            self.possible[self._next] = self._index.row(known.true | known.unclear)
            self._next = (self._next + 1) % len(self.scenes)


def _draw(seed: int, chunk: int) -> tuple[list[Scene], list[NDArray[np.uint8]]]:
    rng = np.random.default_rng([seed, 2, chunk])
    scenes = [random_scene(rng, exclude=HELD_OUT_PAIRS) for _ in range(FRESH)]
    return scenes, [training_picture(scene, rng) for scene in scenes]


# Words ----------------------------------------------------------------------------------------------------------------


class Words:
    """OpenAI's tokenizer over the few tokens that the captions use: 0 is any other token, the last is the end."""

    def __init__(self, seed: int) -> None:
        self._tokenizer = SimpleTokenizer()
        self._pieces: dict[str, list[int]] = {}
        ends = [self._tokenizer.encoder[name] for name in ("<|startoftext|>", "<|endoftext|>")]
        self.token_ids = sorted({*ends, *self._used(seed)})
        self._compact = {token: number + 1 for number, token in enumerate(self.token_ids)}
        self.start, self.end = (self._compact[token] for token in ends)

    def encode(self, text: str) -> list[int]:
        """Tokens of a caption, with its start and end."""
        return [self.start, *(self._compact.get(token, 0) for token in self._encode(text)), self.end]

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        for word in text.split(" "):
            if word not in self._pieces:
                self._pieces[word] = [0] if word == UNKNOWN else self._tokenizer.encode(word)
            tokens += self._pieces[word]
        return tokens

    def _used(self, seed: int) -> Iterator[int]:
        rng, choose = np.random.default_rng([seed, 3]), random.Random(seed)
        for _ in range(4000):
            scene = random_scene(rng, exclude=HELD_OUT_PAIRS)
            for _ in range(10):
                yield from (token for token in self._encode(caption(scene, choose).text) if token)


def batch_captions(scenes: list[Scene], rng: random.Random) -> list[Caption]:
    """A true caption for every scene, then more: true ones, ones with a mistake, and ones of another world."""
    said = [caption(scene, rng) for scene in scenes]
    said += [caption(scene, rng) for scene in rng.sample(scenes, len(scenes) // 4)]
    said = [with_unknown_words(one, rng) if rng.random() < 0.15 else one for one in said]
    shown = [scene for scene in scenes if scene.things]
    said += [swapped_caption(scene, rng) for scene in rng.sample(shown, len(scenes) // 8)]
    return said + [unknown_caption(rng) for _ in range(len(scenes) // 12)]


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """Symmetric contrastive loss with several right answers.

    Every right pair competes with the wrong ones of its picture (and of its caption), not with the other right ones;
    half of a picture's weight is on its own caption. Pairs that are neither right nor wrong are left out.

    Args:
        logits: of pictures (rows) and captions (columns); caption n is of picture n, as far as there are pictures.
        true: which captions are true of which pictures.
        false: which are not.
    """
    own = torch.eye(*logits.shape) * true
    return (_one_way(logits, true, false, own) + _one_way(logits.T, true.T, false.T, own.T)) / 2


def _one_way(logits: torch.Tensor, true: torch.Tensor, false: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    wrong = logits.masked_fill(false == 0, -torch.inf).logsumexp(dim=1, keepdim=True)
    weight = own + true / true.sum(dim=1, keepdim=True).clamp(min=1)
    weight = weight / weight.sum().clamp(min=1)
    return (functional.softplus(wrong - logits) * weight).sum()


def truth(said: list[Caption], batch: Batch, index: FactIndex) -> tuple[torch.Tensor, torch.Tensor]:
    """Which captions are true, and which false, of which pictures."""
    claims = np.stack([index.row(one.claims) for one in said])
    number = claims.sum(axis=1)
    true, possible = batch.true @ claims.T == number, batch.possible @ claims.T == number
    return torch.from_numpy(true).float(), torch.from_numpy(~possible).float()


# Training -------------------------------------------------------------------------------------------------------------


class Average:
    """The running mean of a model's weights, which is better than any one of them."""

    def __init__(self, model: Any, decay: float = 0.998) -> None:
        self.model, self._decay, self._steps = copy.deepcopy(model), decay, 0

    @torch.no_grad()
    def update(self, model: Any) -> None:
        """Take one more step into the mean."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, now in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)


def learning_rate(progress: float, step: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine to nearly zero."""
    return peak * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def fit(
    model: Any,
    pool: PicturePool,
    words: Words,
    index: FactIndex,
    *,
    seed: int,
    steps: int,
    minutes: float,
    peak: float,
    keep: Callable[[Any], None],
) -> int:
    """Train, and hand the averaged model to `keep` every few minutes and at the end.

    Returns:
        The number of steps taken.
    """
    chooser, mean = random.Random(seed), Average(model)
    optimizers = _optimizers(model, peak)
    started = kept = time.monotonic()
    losses: list[float] = []
    for step in range(steps):
        spent = (time.monotonic() - started) / 60
        progress = max(step / steps, spent / minutes)
        if progress >= 1:
            steps = step
            break
        for optimizer in optimizers:
            group = optimizer.param_groups[0]
            group["lr"] = learning_rate(progress, step, peak) * group["share"]
        losses.append(_step(model, optimizers, pool.batch(BATCH), words, index, chooser))
        mean.update(model)
        if step % 100 == 99:
            print(
                f"step {step + 1}  {spent:.1f} min  loss {np.mean(losses[-100:]):.3f}  "
                f"scale {model.logit_scale.exp().item():.1f}",
                flush=True,
            )
        if time.monotonic() - kept > 300:
            keep(mean.model)
            kept = time.monotonic()
    keep(mean.model)
    return steps


def _optimizers(model: Any, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, biases and norms."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.ndim > 1 and "embedding" not in name]
    known = {id(p) for p in matrices}
    others = [p for p in named.values() if id(p) not in known]
    slow = torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    optimizers = [Muon(matrices, lr=peak, weight_decay=0.05), slow]
    for optimizer, share in zip(optimizers, (1.0, 0.3), strict=True):
        optimizer.param_groups[0]["share"] = share
    return optimizers


def _step(
    model: Any,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    words: Words,
    index: FactIndex,
    rng: random.Random,
) -> float:
    said = batch_captions(batch.scenes, rng)
    tokens = [words.encode(one.text) for one in said]
    short = [n for n, row in enumerate(tokens) if len(row) <= TEXT_LENGTH or n < BATCH]
    said, tokens = [said[n] for n in short], [_shortened(tokens[n]) for n in short]
    true, false = truth(said, batch, index)
    logits = model.logit_scale.exp() * encode_images(model, batch.pixels) @ encode_captions(model, tokens).T
    loss = contrastive_loss(logits, true, false)
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
        model.token_embedding.weight[0] = 0
    return float(loss.item())


def _shortened(tokens: list[int]) -> list[int]:
    return tokens if len(tokens) <= TEXT_LENGTH else [*tokens[: TEXT_LENGTH - 1], tokens[-1]]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo.npz"), show_default=True)
@click.option("--steps", default=6000, show_default=True, help="Batches of 128 pictures.")
@click.option("--minutes", default=240.0, show_default=True, help="End earlier, on schedule, after this time.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rate", default=4e-3, show_default=True, help="Peak of the learning rate.")
@click.option("--width", default=128, show_default=True, help="Of the image tower.")
@click.option("--layers", default=5, show_default=True, help="Of the image tower.")
@click.option("--text-width", default=128, show_default=True)
@click.option("--text-layers", default=2, show_default=True)
def main(
    out: Path,
    steps: int,
    minutes: float,
    seed: int,
    threads: int,
    rate: float,
    width: int,
    layers: int,
    text_width: int,
    text_layers: int,
) -> None:
    """Train the tiny CLIP from scratch, write its file and print how well it does."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    started = time.monotonic()
    index, words = FactIndex(), Words(seed)
    pool = PicturePool(seed, POOL, index)
    print(f"{len(words.token_ids)} tokens; {POOL} pictures in {time.monotonic() - started:.0f} s", flush=True)
    model = new_model(Size(width, layers, text_width, text_layers), len(words.token_ids) + 1)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights", flush=True)

    def keep(trained: Any) -> None:
        save_state(out, full_state(trained.state_dict(), words.token_ids))
        print(report(out, seed=seed + 1, few=True), flush=True)

    taken = fit(model, pool, words, index, seed=seed, steps=steps, minutes=minutes, peak=rate, keep=keep)
    print(f"{taken} steps in {(time.monotonic() - started) / 60:.1f} min", flush=True)
    print(report(out, seed=seed + 1))


if __name__ == "__main__":
    main()
