"""OpenAI's vision transformer, computed with the same weights in fewer and larger steps.

The arithmetic is that of `clip.model.VisionTransformer`; what differs is where numbers are rounded:

- The patch embedding is one matrix product, over bytes shifted to -128..127, which bfloat16 and float16 hold exactly;
  CLIP's normalisation by mean and standard deviation is folded into its weights.
- QuickGELU, x * sigmoid(1.702 x), is SiLU(1.702 x) / 1.702, and the factors are folded into the weights on both sides.
  (Converted models may have GELU instead, which is computed as it is.)
- The attention's 1 / sqrt(d) is folded into the weights of the queries.
- On a CPU the weights of each product are laid out once as oneDNN wants them, not in every call.

Measured on two Zen 4 cores with ViT-B/32: 1.4 times the frames/s of the module as it comes in bfloat16, 2.2 times in
float32 (benchmarks/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation, per RGB channel, of values in 0..1 (openai/CLIP, clip.py)."""

_SHIFT, _STEP = 128.0, 64.0  # bytes become (value - 128) / 64: small enough that folded weights stay in float16's range
_QUICK = 1.702  # of QuickGELU

Tower = Callable[[Any], Any]
"""From (n, size, size, 3) uint8 on the device to (n, D) float32 features, as the model gives them."""


def make_tower(visual: Any, dtype: Any, device: str, batch_size: int) -> Tower:
    """The fastest equivalent of `visual`, which must be on the CPU and cannot be used afterwards.

    Args:
        visual: `clip.model.VisionTransformer` or `ModifiedResNet` with its weights.
        dtype: torch's float32, bfloat16 or float16, to compute in.
        device: where to compute.
        batch_size: pictures that most calls bring.
    """
    if hasattr(visual, "class_embedding"):
        return TransformerTower(visual, dtype, device, batch_size)
    return PlainTower(visual, dtype, device)


class PlainTower:
    """The module as it comes, after CLIP's normalisation; all but the layer norms cast to `dtype`."""

    def __init__(self, visual: Any, dtype: Any, device: str) -> None:
        import torch

        visual = visual.to(dtype)
        for part in visual.modules():
            if isinstance(part, torch.nn.LayerNorm):
                part.float()
        self._visual = visual.to(device)
        self._dtype = dtype
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(MEAN, device=device).view(shape) * 255
        self._std = torch.tensor(STD, device=device).view(shape) * 255

    def __call__(self, pictures: Any) -> Any:
        """See `Tower`."""
        scaled = (pictures.permute(0, 3, 1, 2).float() - self._mean) / self._std
        return self._visual(scaled.to(self._dtype)).float()


@dataclass(frozen=True)
class _Block:
    """One residual attention block: layer norms and products, ready to call."""

    norm_1: Tower
    queries_keys_values: Tower
    attended: Tower
    norm_2: Tower
    widen: Tower
    narrow: Tower


class TransformerTower:
    """A vision transformer of OpenAI's; see the module's docstring."""

    def __init__(self, visual: Any, dtype: Any, device: str, batch_size: int) -> None:
        import torch

        self._torch = torch
        self._dtype = dtype
        self._on_cpu = device == "cpu"
        visual = visual.float()
        self._patch = int(visual.conv1.weight.shape[-1])
        self._grid = int(visual.input_resolution) // self._patch
        self._width = int(visual.conv1.weight.shape[0])
        self._heads = int(visual.transformer.resblocks[0].attn.num_heads)
        tokens = self._grid**2 + 1
        products = _Products(dtype, device, batch_size * tokens)
        norms = _Norms(dtype, device)
        self._embed = products.make(*_patch_weights(torch, visual.conv1.weight))
        positions = visual.positional_embedding.detach()
        self._first = (visual.class_embedding.detach() + positions[0]).to(device, dtype)
        self._positions = positions[1:].to(device, dtype)
        self._norm_in = norms.make(visual.ln_pre)
        self._blocks = [self._make_block(block, products, norms) for block in visual.transformer.resblocks]
        self._norm_out = norms.make(visual.ln_post)
        self._project = visual.proj.detach().to(device, dtype)

    def _make_block(self, block: Any, products: _Products, norms: _Norms) -> _Block:
        attention, mlp, width = block.attn, block.mlp, self._width
        weight, bias = attention.in_proj_weight.detach().clone(), attention.in_proj_bias.detach().clone()
        scale = (width // self._heads) ** -0.5
        is_gelu = isinstance(mlp.gelu, self._torch.nn.GELU)
        quick = 1.0 if is_gelu else _QUICK
        weight[:width] *= scale
        bias[:width] *= scale
        return _Block(
            norms.make(block.ln_1),
            products.make(weight, bias),
            products.make(attention.out_proj.weight, attention.out_proj.bias),
            norms.make(block.ln_2),
            products.make(mlp.c_fc.weight * quick, mlp.c_fc.bias * quick, after="gelu" if is_gelu else "silu"),
            products.make(mlp.c_proj.weight / quick, mlp.c_proj.bias),
        )

    def __call__(self, pictures: Any) -> Any:
        """See `Tower`."""
        x = self._norm_in(self._tokens(pictures))
        for block in self._blocks:
            x = x + block.attended(self._attend(block.queries_keys_values(block.norm_1(x))))
            x = x + block.narrow(block.widen(block.norm_2(x)))
        return (self._norm_out(x[:, 0]) @ self._project).float()

    def _tokens(self, pictures: Any) -> Any:
        """(n, 1 + grid^2, width): the class token, then the patches row by row, each with its position added."""
        n, grid, patch = len(pictures), self._grid, self._patch
        side = grid * patch  # of a picture whose side is no multiple, a convolution leaves out the rest
        tiles = pictures[:, :side, :side].reshape(n, grid, patch, grid, patch, 3).permute(0, 1, 3, 2, 4, 5)
        values = tiles.to(self._dtype, memory_format=self._torch.contiguous_format).sub_(_SHIFT).div_(_STEP)
        patches = self._embed(values.view(n * grid * grid, -1)).view(n, grid * grid, self._width)
        tokens = patches.new_empty(n, grid * grid + 1, self._width)
        tokens[:, 0] = self._first
        self._torch.add(patches, self._positions, out=tokens[:, 1:])
        return tokens

    def _attend(self, queries_keys_values: Any) -> Any:
        n, tokens = queries_keys_values.shape[:2]
        split = queries_keys_values.view(n, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        if self._on_cpu:  # torch's fused kernel takes twice as long here, on sequences as short as these
            mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        else:
            mixed = self._torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return mixed.transpose(1, 2).reshape(n, tokens, self._width)


def _patch_weights(torch: Any, weight: Any) -> tuple[Any, Any]:
    """The convolution over patches as a product over their bytes in the order y, x, channel; normalisation included."""
    shape = (1, 3, 1, 1)
    mean, std = torch.tensor(MEAN).view(shape), torch.tensor(STD).view(shape)
    weight = weight.detach()
    bias = (weight * ((_SHIFT / 255 - mean) / std)).sum((1, 2, 3))
    return (weight * (_STEP / 255 / std)).permute(0, 2, 3, 1).reshape(len(weight), -1), bias


class _Norms:
    """Makes layer norms that compute in float32 for inputs of any type, as CLIP's do."""

    def __init__(self, dtype: Any, device: str) -> None:
        self._dtype, self._device = dtype, device

    def make(self, norm: Any) -> Tower:
        import torch

        shape, eps, dtype = norm.normalized_shape, norm.eps, self._dtype
        weight, bias = (part.detach().float().to(self._device) for part in (norm.weight, norm.bias))
        layer_norm = torch.nn.functional.layer_norm
        if self._device == "cpu" and dtype != torch.float16:  # mixed types are computed in float32 in one go
            return lambda x: layer_norm(x, shape, weight, bias, eps)
        return lambda x: layer_norm(x.float(), shape, weight, bias, eps).to(dtype)


class _Products:
    """Makes x W^T + b, on a CPU with W laid out once for oneDNN where torch offers that.

    Args:
        dtype: to compute in.
        device: where.
        rows: rows that x has in most calls; oneDNN chooses its layout by it.
    """

    def __init__(self, dtype: Any, device: str, rows: int) -> None:
        import torch

        self._torch, self._dtype, self._device, self._rows = torch, dtype, device, rows
        self._packs = device == "cpu" and self._packing_works()

    def make(self, weight: Any, bias: Any, *, after: str = "") -> Tower:
        """The product; `after` it "silu", "gelu" or nothing."""
        weight = weight.detach().to(self._device, self._dtype).contiguous()
        bias = bias.detach().to(self._device, self._dtype).contiguous()
        return self._packed(weight, bias, after) if self._packs else self._plain(weight, bias, after)

    def _plain(self, weight: Any, bias: Any, after: str) -> Tower:
        functional = self._torch.nn.functional
        if after == "silu":
            return lambda x: functional.silu(functional.linear(x, weight, bias), inplace=True)
        if after == "gelu":
            return lambda x: functional.gelu(functional.linear(x, weight, bias))
        return lambda x: functional.linear(x, weight, bias)

    def _packed(self, weight: Any, bias: Any, after: str) -> Tower:
        """Through the operators that torch's own compiler emits for frozen weights; they have no public name."""
        operators = self._torch.ops.mkldnn
        packed = operators._reorder_linear_weight(weight, self._rows)
        name = {"silu": "swish", "gelu": "gelu"}.get(after, "none")
        algorithm = "none" if after == "gelu" else ""  # of GELU: the exact one
        return lambda x: operators._linear_pointwise(x, packed, bias, name, [], algorithm)

    def _packing_works(self) -> bool:
        """Try: these operators are internal to torch, which may drop them, or refuse this processor."""
        torch = self._torch
        if not torch.backends.mkldnn.is_available():
            return False
        weight, bias = torch.linspace(-1, 1, 32 * 64).view(32, 64).to(self._dtype), torch.ones(32).to(self._dtype)
        x = torch.linspace(-1, 1, 4 * 64).view(4, 64).to(self._dtype)
        try:
            found = [self._packed(weight, bias, after)(x).float() for after in ("silu", "gelu")]
        except (AttributeError, RuntimeError):
            return False
        plain = [self._plain(weight, bias, after)(x).float() for after in ("silu", "gelu")]
        return all(torch.allclose(a, b, rtol=0.02, atol=0.02) for a, b in zip(found, plain, strict=True))
