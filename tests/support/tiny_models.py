"""Small CLIP models with random weights, in OpenAI's own state-dict layout.

They are real CLIP models as far as the code is concerned: the same keys, the same input size and vocabulary,
the same half-precision storage; only few and narrow layers. What they say about a picture is noise, but the
same noise every time.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

VIT = "vit"
RESNET = "resnet"


def tiny_clip_state_dict(
    seed: int = 0,
    *,
    kind: str = VIT,
    embed_dim: int = 512,
    input_size: int = 224,
    patch_size: int = 32,
    width: int = 64,
    layers: int = 2,
    text_width: int = 64,
    text_layers: int = 2,
    half: bool = True,
) -> dict[str, Any]:
    """Give the weights of a small CLIP, for `clip.model.build_model`.

    Args:
        seed: Of the random weights; equal seeds give equal weights.
        kind: `VIT` or `RESNET` (one block a stage; its width is the stem's, `patch_size` unused).
        embed_dim: D of the features.
        input_size: Pixels of the square input; a multiple of `patch_size`, of 32 for a ResNet.
        patch_size: Pixels of a ViT patch.
        width: Channels of the image tower; a multiple of 64.
        layers: Of the image tower.
        text_width: Channels of the text tower; a multiple of 64.
        text_layers: Of the text tower.
        half: Store matrices as float16, as OpenAI does; layer norms and embeddings stay float32.

    Returns:
        Tensors by OpenAI's names, with its archives' `input_resolution`, `context_length` and `vocab_size`.
    """
    import clip.model
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = clip.model.CLIP(
            embed_dim=embed_dim,
            image_resolution=input_size,
            vision_layers=layers if kind == VIT else (1, 1, 1, 1),
            vision_width=width,
            vision_patch_size=patch_size if kind == VIT else None,
            context_length=77,
            vocab_size=49408,
            transformer_width=text_width,
            transformer_heads=text_width // 64,
            transformer_layers=text_layers,
        )
        if kind == RESNET:
            _wake_resnet(model.visual)
    torch.nn.init.constant_(model.logit_scale, math.log(100))
    if half:
        clip.model.convert_weights(model)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    sizes = {"input_resolution": input_size, "context_length": 77, "vocab_size": 49408}
    return weights | {name: torch.tensor(value) for name, value in sizes.items()}


def _wake_resnet(tower: Any) -> None:
    """Let the picture reach the output: a fresh ResNet's branches end in zeros and fade the rest."""
    import torch

    for name, parameter in tower.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)
        elif parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")


def write_tiny_weights(path: Path, seed: int = 0, **size: Any) -> Path:
    """Write `tiny_clip_state_dict(seed, **size)` to a `.pt` or `.safetensors` file and return the path."""
    weights = tiny_clip_state_dict(seed, **size)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(weights, path)
    else:
        import torch

        torch.save(weights, path)
    return path
