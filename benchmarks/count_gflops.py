"""Count what a picture costs in each known model, and write extract/models/gflops.json, which `clipcache models` reads.

    python -m benchmarks.count_gflops        # about a minute; needs the extra open-clip

Run it again for a new version of open_clip. Models are run on the meta device, where nothing is computed and no weights
are needed.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from clipcache.cache import DigestMemo
from clipcache.extract.models.open_clip import import_open_clip
from clipcache.extract.models.open_clip_registry import ARCH, registry
from clipcache.extract.models.weights import DEMO_MODEL, OPENAI_MODELS, find_weights, load_clip

from .make_weights import SIZES

TABLE = Path(__file__).resolve().parents[1] / "extract" / "models" / "gflops.json"


def count_gflops(tower: Any, input_size: int) -> float:
    """Count the operations that a picture takes, a multiplication and an addition as two.

    Args:
        tower: a module on the meta device, from (n, 3, S, S) to features.
        input_size: S in pixels.

    Returns:
        Billions of operations of the matrix products and convolutions, as torch's `FlopCounterMode` counts them.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        tower.eval()(torch.empty(1, 3, input_size, input_size, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def count_openai(model: str) -> float:
    """Count one of OpenAI's models, or the demo's."""
    import clip.model
    import torch

    if model == DEMO_MODEL:
        return count_gflops(load_clip(find_weights(model, None, DigestMemo())).visual.to("meta"), 224)
    embed_dim, pixels, layers, width, patch, _ = SIZES[model]
    with torch.device("meta"):
        if isinstance(layers, tuple):
            tower = clip.model.ModifiedResNet(layers, embed_dim, width // 2, pixels, width)
        else:
            tower = clip.model.VisionTransformer(pixels, patch, width, layers, width // 64, embed_dim)
    return count_gflops(tower, pixels)


def count_open_clip(open_clip: Any, arch: str) -> float | None:
    """Count an architecture of open_clip; None where it cannot be built or run without memory, as some of timm's."""
    import torch

    config = open_clip.get_model_config(arch)
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            # Only the picture encoder: text encoders of other makers would be looked up on the network.
            tower = open_clip.model._build_vision_tower(
                config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False)
            )
            return count_gflops(tower, config["vision_cfg"].get("image_size", 224))
    except Exception as error:  # noqa: BLE001  timm's models fail in their own ways
        print(f"{arch} cannot be counted: {error}")
        return None


def main() -> None:
    """Count all models and write the table."""
    open_clip = import_open_clip()
    counts: dict[str, float | None] = {model: count_openai(model) for model in (*OPENAI_MODELS, DEMO_MODEL)}
    for arch in sorted({arch for arch, _, _, _ in registry(open_clip)}):
        counts[f"{ARCH}{arch}"] = count_open_clip(open_clip, arch)
    rounded = {name: None if count is None else round(count, 2) for name, count in counts.items()}
    TABLE.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    print(f"{TABLE}: {len(rounded)} models")


if __name__ == "__main__":
    main()
