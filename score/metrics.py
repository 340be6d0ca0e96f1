"""The metrics: on which scale a score is given, and for which references and entries each is defined.

This module imports nothing heavy: the choices of the command line come from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..cache.common.errors import UsageError
from ..cache.common.quoting import one_line

if TYPE_CHECKING:
    from ..cache import EntryAttributes

AUDIO = "audio"  # source_kind of an entry of sound
CLIPSCORE_WEIGHT = 2.5
_DEFAULT_WINDOW_S = 10.0


@dataclass(frozen=True)
class Metric:
    """The scale of a score.

    Attributes:
        title: name in sentences and on axes.
        meaning: what a score is, starting with the title.
        range: lowest and highest value; empty where they depend on the model.
        prompt_prefix: put before each prompt.
    """

    title: str
    meaning: str
    range: str = ""
    prompt_prefix: str = ""

    @property
    def scale(self) -> str:
        """Meaning and range, as stated beside scores."""
        return f"{self.meaning}, {self.range}" if self.range else self.meaning

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return f"{self.title} ({self.range})" if self.range else self.title


COSINE = Metric("cosine", "cosine", "-1 to 1")
METRICS = {
    # c = <f, r> / (|f| |r|), per frame (`similarity`).
    "cosine": COSINE,
    # As CLIP's `forward` gives it (Radford et al. 2021); the logit scale is about 100.
    "logit": Metric("logit", "logit: the model's logit scale times the cosine"),
    # Softmax of the logits over the references, per frame: they add up to 1. It says which of the given references fits
    # best, never how well; over one reference it is always 1, and refused.
    "probability": Metric("probability", "probability over the references of the video", "0 to 1"),
    # Hessel et al. 2021, CLIPScore.
    "clipscore": Metric(
        "CLIPScore", f"CLIPScore: {CLIPSCORE_WEIGHT} max(cosine, 0)", f"0 to {CLIPSCORE_WEIGHT}", "A photo depicts "
    ),
}
"""Each metric by its name on the command line and in the names of columns; the default first."""
SCALED = ("logit", "probability")
"""Those that multiply cosines by the model's logit scale."""


def check_metric(metric: str, kinds: Sequence[str], *, pairs: bool) -> None:
    """Refuse a metric that is not defined for the references given.

    Args:
        metric: one of METRICS.
        kinds: kind of each reference of a video.
        pairs: whether each video has a reference of its own.

    Raises:
        UsageError: saying why.
    """
    if metric == "probability" and (pairs or len(kinds) < 2):
        raise UsageError(
            "A probability is shared among the references of a video, and that of a single one is always 1",
            "give two or more, or choose another --metric",
        )
    if metric == "probability" and "video" in kinds:
        raise UsageError("A probability needs references without a time of their own", "leave out --video")
    if metric == "clipscore" and set(kinds) - {"text"}:
        raise UsageError("CLIPScore is defined for prompts", "give only prompts, or choose another --metric")


def check_sound_metric(metric: str, entries: Iterable[EntryAttributes]) -> None:
    """Refuse CLIPScore for sound: neither its prefix nor its weight is CLAP's.

    Raises:
        UsageError: saying so.
    """
    if metric == "clipscore" and any(one.source_kind == AUDIO for one in entries):
        raise UsageError("CLIPScore is defined for pictures; the score of sound is the mean cosine: --metric cosine")


def sound_note(entries: Iterable[EntryAttributes]) -> str:
    """A line below a table for each way in which its entries of sound were made; "" if there are none.

    CLAP's cosines compare only with others of the same checkpoint, window and hop.
    """
    ways = dict.fromkeys(_sound_settings(one) for one in entries if one.source_kind == AUDIO)
    return "".join(
        f"CLAP score: mean cosine over windows of sound, timed from the first picture; {way}; "
        "scores of different ones do not compare\n"
        for way in ways
    )


def _sound_settings(attributes: EntryAttributes) -> str:
    """The checkpoint, window and hop of an entry of sound."""
    from ..cache.format.sampling import Sampling

    sampling = Sampling.parse(attributes.sampling)
    window_s, hop_s = (_DEFAULT_WINDOW_S if value is None else value for value in (sampling.window_s, sampling.hop_s))
    return (
        f"checkpoint {one_line(attributes.model)} (weights {attributes.weights_sha256[:8]}), "
        f"window {window_s:g} s, hop {hop_s:g} s"
    )
