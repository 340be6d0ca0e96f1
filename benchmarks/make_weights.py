"""Write random weights of a real OpenAI CLIP's size: speed and plumbing can be measured without a download.

    python benchmarks/make_weights.py OUT.safetensors [--model ViT-B/32] [--seed 0] [--precision fp16|fp32]

The file has OpenAI's own keys, shapes and number formats and takes the same time to run; what the model says
about a picture is noise, the same for the same seed.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from typing import Any

# As the published archives have them: features, input pixels, image layers, image width, patch pixels,
# text width. Every text tower has 12 layers and text width // 64 heads.
SIZES: dict[str, tuple[int, int, int | tuple[int, ...], int, int | None, int]] = {
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 512),
    "RN101": (512, 224, (3, 4, 23, 3), 64, None, 512),
    "RN50x4": (640, 288, (4, 6, 10, 6), 80, None, 640),
    "RN50x16": (768, 384, (6, 8, 18, 8), 96, None, 768),
    "RN50x64": (1024, 448, (3, 15, 36, 10), 128, None, 1024),
    "ViT-B/32": (512, 224, 12, 768, 32, 512),
    "ViT-B/16": (512, 224, 12, 768, 16, 512),
    "ViT-L/14": (768, 224, 24, 1024, 14, 768),
    "ViT-L/14@336px": (768, 336, 24, 1024, 14, 768),
    "tiny": (512, 224, 2, 64, 32, 64),  # not OpenAI's: costs next to nothing, so that everything else shows
}
CONTEXT_LENGTH = 77
VOCABULARY = 49408


def random_weights(model: str, seed: int, half: bool) -> dict[str, Any]:
    """Give random weights in OpenAI's layout.

    Args:
        model: A key of `SIZES`.
        seed: Of the random numbers.
        half: Store matrices as float16, as OpenAI does; layer norms and embeddings stay float32.

    Returns:
        Tensors by OpenAI's names, initialised as `CLIP.initialize_parameters` does; the logit scale is 100.
    """
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from clip.model import CLIP, convert_weights
    embed_dim, pixels, layers, width, patch, text_width = SIZES[model]
    torch.manual_seed(seed)
    clip = CLIP(
        embed_dim=embed_dim,
        image_resolution=pixels,
        vision_layers=layers,
        vision_width=width,
        vision_patch_size=patch,
        context_length=CONTEXT_LENGTH,
        vocab_size=VOCABULARY,
        transformer_width=text_width,
        transformer_heads=text_width // 64,
        transformer_layers=12,
    )
    torch.nn.init.constant_(clip.logit_scale, math.log(100))
    if half:
        convert_weights(clip)
    sizes = {"input_resolution": pixels, "context_length": CONTEXT_LENGTH, "vocab_size": VOCABULARY}
    weights = {name: tensor.detach().contiguous() for name, tensor in clip.state_dict().items()}
    return weights | {name: torch.tensor(value) for name, value in sizes.items()}


def write_weights(path: str, model: str, seed: int = 0, half: bool = True) -> int:
    """Write `random_weights` to a .safetensors file; how many numbers these are."""
    from safetensors.torch import save_file

    weights = random_weights(model, seed, half)
    save_file(weights, path)
    return sum(tensor.numel() for tensor in weights.values())


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    parser.add_argument("--model", choices=sorted(SIZES), default="ViT-B/32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["fp16", "fp32"], default="fp16")
    options = parser.parse_args()
    if options.out.suffix != ".safetensors":
        parser.error(f"{options.out}: the name must end in .safetensors")
    numbers = write_weights(str(options.out), options.model, options.seed, options.precision == "fp16")
    print(f"{options.out}: {options.model}, {numbers:,} numbers, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
