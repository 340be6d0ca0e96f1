"""An encoder of your own: any image model of timm, such as DINOv2, as `--model timm:ARCHITECTURE`.

In the pyproject.toml of the package that holds this module:

    [project.entry-points."clipcache.encoders"]
    timm = "own_encoder:TimmEncoder"

Then: clipcache extract videos/ --model timm:vit_small_patch14_dinov2.lvd142m
"""

from pathlib import Path

import timm
import torch
from clipcache.cache.common.errors import ModelError
from clipcache.cache.common.hashing import sha256_file
from clipcache.extract.models.contract import EncoderSpec, state_dict_sha256
from clipcache.extract.video.resize import ResizeRule


class TimmEncoder:
    """See `clipcache.extract.models.contract.Encoder`."""

    def __init__(self, model: str, weights: Path | None, device: str, dtype: torch.dtype) -> None:
        self._net = timm.create_model(model.partition(":")[2], pretrained=weights is None, num_classes=0).eval()
        if weights is not None:
            self._net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        config = timm.data.resolve_data_config({}, model=self._net)
        modes = {"center": "shortest", "squash": "squash"}  # clipcache's words for timm's crop modes
        if config["crop_mode"] not in modes:
            raise ModelError(f"{model} prepares pictures by timm's crop mode {config['crop_mode']!r}")
        self.spec = EncoderSpec(
            name=model,
            weights_sha256=sha256_file(weights) if weights else state_dict_sha256(self._net.state_dict()),
            embed_dim=self._net.num_features,
            input_size=config["input_size"][-1],
            mean=config["mean"],
            std=config["std"],
            resize=ResizeRule(modes[config["crop_mode"]], config["interpolation"], crop=config["crop_pct"]),
            has_text=False,
            normalization="none",
        )
        self._net.to(device, dtype)
        self._dtype = dtype
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (config["mean"], config["std"]))

    def encode_images(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) uint8 to (n, D) float32."""
        values = (pictures.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        return self._net(values.to(self._dtype)).float()

    def encode_texts(self, prompts: list[str], truncate: bool = False) -> None:  # noqa: ARG002  refused in any case
        """There is no text half."""
        raise ModelError(f"{self.spec.name} has no text half", "compare with pictures or videos")
