"""OpenAI's CLIPs as encoders: pictures by the fast encoders of `openai_fast`, prompts by the model's own code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .contract import EncoderSpec, FloatArray, too_long
from .openai_fast import Tower, make_tower
from .placement import Placement
from .weights import WeightsFile, find_weights, load_clip

__all__ = ["OpenAIClip", "find_weights", "open_encoder"]


def open_encoder(weights: WeightsFile, placement: Placement, *, trust: bool = False, texts: bool = True) -> OpenAIClip:
    """See `registry.open_encoder`."""
    return OpenAIClip(weights, placement, trust=trust, texts=texts)


class OpenAIClip:
    """A CLIP in OpenAI's layout, of any size and name: an `Encoder`. Prompts are always computed in float32."""

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False, texts: bool = True) -> None:
        model = load_clip(weights, trust=trust)
        self.spec = EncoderSpec(
            name=weights.model,
            weights_sha256=weights.sha256,
            embed_dim=int(model.text_projection.shape[1]),
            input_size=int(model.visual.input_resolution),
            logit_scale=float(model.logit_scale.exp()),
            pooling="class token" if hasattr(model.visual, "class_embedding") else "attention pooling",
            normalization="none",
        )
        self._placement = placement
        self._visual = model.visual
        del model.visual
        self._text = model.to(placement.device) if texts else None

    @cached_property
    def _tower(self) -> Tower:
        placement = self._placement
        return make_tower(self._visual, placement.dtype, placement.device, placement.batch_size)

    def encode_images(self, pictures: Any) -> Any:
        """See `Encoder`."""
        return self._tower(pictures)

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """See `Encoder`."""
        import torch

        tokens = self._tokenize(prompts, truncate).to(self._placement.device)
        text: Any = self._text
        with torch.inference_mode():  # `clip.model.CLIP.encode_text`, which asks the picture encoder for its dtype
            embedded = text.token_embedding(tokens) + text.positional_embedding
            states = text.ln_final(text.transformer(embedded.permute(1, 0, 2)).permute(1, 0, 2))
            last = states[torch.arange(len(tokens)), tokens.argmax(-1)]  # of each prompt: its end-of-text token
            features: FloatArray = (last @ text.text_projection).cpu().numpy()
        return features

    def _tokenize(self, prompts: Sequence[str], truncate: bool) -> Any:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pkg_resources, on itself and on editable installs
            import clip

        text: Any = self._text
        rows = []
        for prompt in prompts:
            try:
                rows.append(clip.tokenize([prompt], context_length=text.context_length, truncate=truncate))
            except RuntimeError as error:
                room = 8 * len(prompt) + 100  # a token is a byte at least, and few characters become many
                tokens = int(clip.tokenize([prompt], context_length=room).argmax()) + 1  # the last one ends the text
                raise too_long(prompt, text.context_length, tokens) from error
        return torch.cat(rows)
