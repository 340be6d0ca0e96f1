"""What scores of sound say of themselves: CLAP's are cosines that mean something only beside others of its making."""

from __future__ import annotations

from collections.abc import Iterable

from ..cache import EntryAttributes
from ..cache.common.errors import UsageError
from ..cache.common.quoting import one_line
from ..cache.format.sampling import Sampling

AUDIO = "audio"
_DEFAULT_S = 10.0


def made_with(attributes: EntryAttributes) -> str:
    """The checkpoint, window and hop of an entry of sound."""
    sampling = Sampling.parse(attributes.sampling)
    window_s, hop_s = (_DEFAULT_S if value is None else value for value in (sampling.window_s, sampling.hop_s))
    return (
        f"checkpoint {one_line(attributes.model)} (weights {attributes.weights_sha256[:8]}), "
        f"window {window_s:g} s, hop {hop_s:g} s"
    )


def sound_note(entries: Iterable[EntryAttributes]) -> str:
    """A line below a table for each way in which its entries of sound were made; "" if there are none."""
    ways = dict.fromkeys(made_with(one) for one in entries if one.source_kind == AUDIO)
    return "".join(
        f"CLAP score: mean cosine over windows of sound, timed from the first picture; {way}; "
        "scores of different ones do not compare\n"
        for way in ways
    )


def check_sound_metric(metric: str, entries: Iterable[EntryAttributes]) -> None:
    """Refuse CLIPScore for sound: neither its prefix nor its weight is CLAP's.

    Raises:
        UsageError: Saying so.
    """
    if metric == "clipscore" and any(one.source_kind == AUDIO for one in entries):
        raise UsageError("CLIPScore is defined for pictures; the score of sound is the mean cosine: --metric cosine")
