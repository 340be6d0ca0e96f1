"""CLAP: encodes sounds and prompts.

This is the only module that imports `transformers`. Features come as a tensor in its version 4 and as an object with a
`pooler_output` in version 5. Its feature extractor cuts sounds longer than ten seconds at random, so windows are never
longer. Checkpoints that fuse long sounds ("fused") treat one sound of each batch, chosen at random, as a long one, and
are refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import ModelError, UsageError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import quoted
from ..models.contract import too_long
from ..models.placement import Placement, place
from .weights import CHECKPOINT, DEFAULT_MODEL, WEIGHTS_NAMES, ClapFiles, find_clap
from .windows import SAMPLE_RATE, Samples

_PROMPTS_PER_BATCH = 32
_BATCH = {"cpu": 8, "cuda": 64}

FloatArray = npt.NDArray[np.float32]


class SoundEncoder:
    """Encodes windows of sound in float32: a window lasts as long as 250 frames, so the cost does not matter.

    Attributes:
        files: the model.
        placement: device, precision, and windows per batch.
        embed_dim: D, the length of a feature.
        logit_scale: factor from the cosine of sound and text to the logit.
        logit_bias: 0.0: CLAP adds nothing to a logit.
        pooling: how the model makes one vector of a window.
        normalization: "l2": features have length 1.
        max_samples: the most samples that a window may have.
    """

    logit_bias = 0.0
    pooling = "mean over time and frequency"
    normalization = "l2"

    def __init__(self, files: ClapFiles, device: str = "auto", batch_size: int | None = None) -> None:
        """Load the model.

        Raises:
            UsageError: if this machine does not have the device.
            ModelError: if the files are damaged, or not all there.
        """
        self.files = files
        placement = place(device, "fp32", batch_size)
        self.placement = Placement(placement.device, "fp32", batch_size or _BATCH[placement.device.split(":")[0]])
        with _loading(files) as transformers:
            self._extractor = transformers.ClapFeatureExtractor.from_pretrained(files.folder, local_files_only=True)
        self._model = _load_model(files, placement.device)
        self.embed_dim = int(self._model.config.projection_dim)
        self.logit_scale = float(self._model.logit_scale_a.exp())
        self.max_samples = int(self._extractor.nb_max_samples)
        if self._extractor.sampling_rate != SAMPLE_RATE:
            raise ModelError(
                f"{quoted(files.folder)} takes {self._extractor.sampling_rate} samples a second, not {SAMPLE_RATE}",
                f"use another, such as {CHECKPOINT}",
            )

    def encode(self, windows: Sequence[Samples]) -> FloatArray:
        """(n, D) float32 features, of length 1.

        Args:
            windows: each of 1 to `max_samples` mono samples at 48 kHz; shorter ones are repeated to fill that.
        """
        import torch

        # A longer one would be cut at random.
        assert all(0 < len(window) <= self.max_samples for window in windows)  # noqa: S101
        batches = []
        for start in range(0, len(windows), self.placement.batch_size):
            spectra = self._extractor(
                [np.asarray(window) for window in windows[start : start + self.placement.batch_size]],
                truncation="rand_trunc",
                padding="repeatpad",
                sampling_rate=SAMPLE_RATE,
                return_tensors="pt",
            )
            # TensorFloat-32 would make the features depend on the batch.
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                found = self._model.get_audio_features(
                    input_features=spectra["input_features"].float().to(self.placement.device),
                    is_longer=torch.zeros(len(spectra["input_features"]), 1, dtype=torch.bool),
                )
            batches.append(_rows(found))
        return np.concatenate(batches)


class TextEncoder:
    """Encodes prompts into the space of the sounds: a `ReferenceEncoder` for `score`."""

    def __init__(self, files: ClapFiles, device: str = "auto") -> None:
        """Load the model.

        Raises:
            UsageError: if this machine does not have the device.
            ModelError: if the files are damaged, or not all there.
        """
        self._device = place(device, "fp32").device
        with _loading(files) as transformers:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(files.folder, local_files_only=True)
        self._model = _load_model(files, self._device)
        text = self._model.config.text_config
        # RoBERTa counts positions from the one after the padding's.
        self._max_tokens = int(text.max_position_embeddings) - int(text.pad_token_id) - 1

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> FloatArray:
        """(P, D) float32 features of prompts, of length 1.

        Raises:
            ModelError: if a prompt is longer than the model reads and `truncate` is false.
        """
        import torch

        batches = []
        for start in range(0, len(prompts), _PROMPTS_PER_BATCH):
            tokens = self._tokens(prompts[start : start + _PROMPTS_PER_BATCH], truncate)
            with torch.inference_mode():
                found = self._model.get_text_features(
                    input_ids=tokens["input_ids"].to(self._device),
                    attention_mask=tokens["attention_mask"].to(self._device),
                )
            batches.append(_rows(found))
        return np.concatenate(batches)

    def encode_images(self, paths: Sequence[Path]) -> NoReturn:  # noqa: ARG002  the protocol's signature
        """Refuse pictures, which CLAP cannot encode.

        Raises:
            UsageError: always.
        """
        raise UsageError("Sound cannot be compared with images: CLAP encodes sound and text only", "ask with --text")

    def _tokens(self, prompts: Sequence[str], truncate: bool) -> Any:
        with _quiet():
            tokens = self._tokenizer(
                list(prompts),
                padding=True,
                truncation=truncate,
                max_length=self._max_tokens if truncate else None,
                return_tensors="pt",
            )
        lengths = tokens["attention_mask"].sum(dim=1).tolist()
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > self._max_tokens:
                raise too_long(prompt, self._max_tokens, length)
        return tokens


def load_text_encoder(
    model: str, weights_sha256: str, *, directory: str | os.PathLike[str] | None = None, device: str = "auto"
) -> TextEncoder:
    """Load the encoder of prompts for features that were made with the given weights.

    Args:
        model: the name that the cache records.
        weights_sha256: the checksum that the cache records.
        directory: a saved model; None looks for the one used before, then for the published one.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: if the extra packages are missing.
        ModelError: if the model cannot be found, or is not the one that made the features.
    """
    memo = DigestMemo()
    if directory is None:
        known = [path.parent for path in memo.paths_of(weights_sha256) if path.name in WEIGHTS_NAMES]
        directory = known[0] if known else None
    if directory is None and model != DEFAULT_MODEL:
        raise ModelError(
            f"The features were made with weights {weights_sha256[:16]}… of {model}, which are not where they were",
            "name the folder of the model with --weights",
        )
    files = find_clap(directory, memo)
    if files.sha256 != weights_sha256:
        raise ModelError(
            f"The weights in {quoted(files.folder)} ({files.sha256[:16]}…) are not those that made the features "
            f"({weights_sha256[:16]}…); scores would mean nothing"
        )
    return TextEncoder(files, device)


def _load_model(files: ClapFiles, device: str) -> Any:
    with _loading(files) as transformers:
        model, found = transformers.ClapModel.from_pretrained(
            files.folder, local_files_only=True, output_loading_info=True
        )
    # Weights that a file lacks are initialised at random, with no more than a warning.
    if missing := sorted({name for name, _ in model.named_parameters()} & set(found["missing_keys"])):
        raise ModelError(f"{quoted(files.folder)} lacks weights of a CLAP model ({missing[0]})", "save it again")
    return model.float().eval().requires_grad_(False).to(device)


@contextlib.contextmanager
def _loading(files: ClapFiles) -> Iterator[Any]:
    """Give `transformers` without its output, and turn what it raises over a saved model into one sentence."""
    try:
        with _quiet():
            import transformers

            yield transformers
    except Exception as error:
        reason = str(error).split("\n", 1)[0][:200].rstrip(". ") or type(error).__name__
        raise ModelError(
            f"The CLAP model in {quoted(files.folder)} cannot be loaded ({reason})", "save it again"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn off the progress bars and messages of `transformers` for a while."""
    from transformers.utils import logging as its_logging

    level, had_bars = its_logging.get_verbosity(), its_logging.is_progress_bar_enabled()
    its_logging.set_verbosity(logging.CRITICAL)
    its_logging.disable_progress_bar()
    try:
        yield
    finally:
        its_logging.set_verbosity(level)
        if had_bars:
            its_logging.enable_progress_bar()


def _rows(found: Any) -> FloatArray:
    """Features as an array, from what version 4 or 5 of `transformers` returns."""
    rows: FloatArray = getattr(found, "pooler_output", found).float().cpu().numpy()
    return rows
