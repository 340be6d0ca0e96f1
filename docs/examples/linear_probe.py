"""Train a linear probe on cached features: what is on the screen?

    clipcache demo demo && python linear_probe.py demo

The features and the labels are those of the demo's library (`truth.json` says what is shown when). The probe is
trained on one video and tested on another, in which the same things are shown in another order. It takes seconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from clipcache.cache import FeatureCache
from clipcache.cache.dataset import Clip
from torch.utils.data import DataLoader

TRAINED_ON, TESTED_ON = "shapes.mp4", "encore.mp4"


def main(folder: Path) -> float:
    """Train and test; the share of clips of the second video that are labelled rightly, 0 to 1."""
    torch.manual_seed(0)
    truth = json.loads((folder / "videos" / "truth.json").read_text(encoding="utf-8"))
    captions = sorted({scene["caption"] for scene in truth if scene["video"] == TRAINED_ON})

    def example(clip: Clip) -> tuple[str, torch.Tensor, int]:
        features = torch.nn.functional.normalize(clip.features.mean(0), dim=0)
        return clip.video_name, features, captions.index(shown(truth, clip)) if shown(truth, clip) in captions else -1

    examples = list(FeatureCache(folder / "features").to_dataset(window=4, stride=4, transform=example))
    train = [(features, label) for video, features, label in examples if video == TRAINED_ON]
    test = [(features, label) for video, features, label in examples if video == TESTED_ON and label >= 0]
    probe = torch.nn.Linear(len(train[0][0]), len(captions))
    optimiser = torch.optim.AdamW(probe.parameters(), lr=0.03)
    for _ in range(20):
        for features, labels in DataLoader(train, batch_size=32, shuffle=True):
            loss = torch.nn.functional.cross_entropy(probe(features), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.inference_mode():
        right = [int(probe(features).argmax()) == label for features, label in test]
    return sum(right) / len(right)


def shown(truth: list[dict], clip: Clip) -> str:
    """What is shown in the middle of a clip; "" where nothing is said of it."""
    middle_s = float(clip.timestamps_ms[len(clip.timestamps_ms) // 2]) / 1000
    scenes = (scene for scene in truth if scene["video"] == clip.video_name)
    return next((scene["caption"] for scene in scenes if scene["start_s"] <= middle_s < scene["end_s"]), "")


if __name__ == "__main__":
    print(f"Right on {main(Path(sys.argv[1])):.1%} of the clips of {TESTED_ON}")
