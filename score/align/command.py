"""`clipcache align`: whether picture and sound of a video belong together, without a caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from ...cache.common.errors import CacheError, UsageError
from ...cache.common.messages import say
from ...cache.common.options import PATH, Number, warn
from ...cache.common.quoting import quoted
from ..options import TARGETS, Scoring, output_options, scoring_command

if TYPE_CHECKING:
    from ...cache.common.render import Row
    from ...cache.select import OnSkip
    from .measure import Aligned, Anchors, Described, Pair

_COLUMNS = (
    "video",
    "windows",
    "align",
    "mismatched_align",
    "rank_of_own_sound",
    "cka",
    "cka_null_mean",
    "cka_p_value",
    "video_sha256",
)
_NOTE = (
    "align: cosine of how picture and sound differ from the bank, anchor by anchor, -1 to 1; mismatched_align: mean of "
    "this picture with the sounds of the other videos; rank_of_own_sound: 1 is best\n"
)
_CKA_NOTE = (
    "cka: debiased linear CKA of the two sequences: whether they change together, not whether they belong together; "
    "cka_null_mean: over circular shifts of the sound; cka_p_value: share of shifts at least as high, 0 to 1; empty "
    "below 24 windows\n"
)


@scoring_command(
    TARGETS,
    cloup.option_group(
        "How to compare",
        click.option("--sound-model", default="clap", show_default=True, help="Model of the sound."),
        click.option("--vocabulary", type=PATH, help="Words, one a line, instead of the bundled ones."),
        click.option(
            "--bank", "bank_file", type=PATH, help="Standardise over this bank instead of the videos themselves."
        ),
        click.option("--save-bank", type=PATH, help="Write the bank of these videos to a file (.npz) for --bank."),
        click.option(
            "--silence",
            type=Number(),
            default=-60.0,
            show_default=True,
            help="Leave out windows below this level, in dB of full scale.",
        ),
        click.option("--cka", is_flag=True, help="Also measure by CKA whether both change together."),
    ),
    output=output_options(),
    short_help="Tell whether picture and sound of videos belong together, without captions.",
    frames=False,
)
def align(
    scoring: Scoring,
    targets: tuple[Path, ...],
    sound_model: str,
    vocabulary: Path | None,
    bank_file: Path | None,
    save_bank: Path | None,
    silence: float,
    cka: bool,
    style: str,
    output: Path | None,
) -> None:
    """Compare picture and sound of cached videos through a vocabulary of things that are seen and heard.

    TARGETS are as in `score`; none means the whole cache. Features of pictures and of sound are never compared
    directly: their spaces are unrelated, so a cosine between them has no meaning.
    """
    from ...cache import DigestMemo
    from ...cache.common.render import render_rows, write_text
    from ..question import choose, resolver_for
    from .bank import load_bank
    from .bank import save_bank as write_bank
    from .measure import align as align_all
    from .measure import bank_key, make_anchors, make_bank, pair_up, read_vocabulary

    words = read_vocabulary(vocabulary)
    context = replace(scoring, model=scoring.model or _picture_model(scoring.cache_dir)).context()
    # The file of --weights is the picture model's.
    sound_context = replace(scoring, model=sound_model, weights=None).context()
    memo = DigestMemo()
    pictures, sounds = choose(targets, context, memo), choose(targets, sound_context, memo)
    pairs = pair_up(pictures, sounds)
    anchors = make_anchors(words, resolver_for(pictures, context, memo), resolver_for(sounds, sound_context, memo))
    described = list(_describe_all(pairs, anchors, silence, cka, context.on_skip))
    if bank_file:
        bank = load_bank(bank_file, bank_key(pairs[0], words), len(words))
    else:
        bank = make_bank(described, pairs[0], words, warn)
    aligned = align_all(described, bank)
    if style == "table":
        note = _NOTE + _CKA_NOTE * cka + _set_text(aligned, bank.items)
    else:
        note = ""
        say(_set_text(aligned, bank.items).rstrip("\n"), by_itself=True)
    write_text(render_rows(_rows(aligned), style, _COLUMNS, _COLUMNS[:-1], note), output)
    if save_bank:
        write_bank(bank, save_bank)


def _picture_model(cache_dir: Path) -> str | None:
    """The folder of the cache's only model of pictures; None where there are several, or none."""
    from ...cache import FeatureCache
    from ...cache.format.names import is_clap

    found = [one.name for one in FeatureCache(cache_dir).models() if not is_clap(one.slug)]
    if len(found) > 1:
        raise UsageError(f"The cache {quoted(cache_dir)} holds {', '.join(found)}", "choose one with --model")
    return found[0] if found else None


def _describe_all(
    pairs: list[Pair], anchors: Anchors, silence: float, cka: bool, on_skip: OnSkip
) -> Iterator[Described]:
    from ...cache.common.progress import counted
    from .measure import describe

    for pair in counted(pairs, "Measuring", len(pairs), "videos"):
        try:
            yield describe(pair, anchors, silence, with_change=cka)
        except CacheError as error:
            on_skip(pair.picture.path, error)


def _rows(aligned: Aligned) -> Iterator[Row]:
    import numpy as np

    for number, one in enumerate(aligned.videos):
        row = aligned.scores[number]
        own, others = row[number], np.delete(row, number)
        others = others[np.isfinite(others)]
        held = bool(np.isfinite(own))
        yield {
            "video": one.name,
            "windows": int((np.isfinite(one.pictures).all(axis=1) & np.isfinite(one.sounds).all(axis=1)).sum()),
            "align": float(own) if held else None,
            "mismatched_align": float(others.mean()) if held and len(others) else None,
            "rank_of_own_sound": int((others > own).sum()) + 1 if held else None,
            "cka": one.change.cka if one.change else None,
            "cka_null_mean": one.change.null_mean if one.change else None,
            "cka_p_value": one.change.p_value if one.change else None,
            "video_sha256": one.sha256,
        }


def _set_text(aligned: Aligned, bank_items: int) -> str:
    """How well the scores of the whole set tell matched pairs from mismatched ones."""
    if aligned.set is None:
        return "There is only one video with picture and sound: no mismatched pair to compare with.\n"
    found = aligned.set
    recall = ", ".join(f"recall@{k} {share:.3f}" for k, share in found.recall.items())
    return (
        f"{len(aligned.videos)} videos, bank of {bank_items}: mean align of matched pairs {found.matched:.4f}, of "
        f"mismatched pairs {found.mismatched:.4f} (-1 to 1); AUC of matched against mismatched {found.auc:.3f} (0.5 is "
        f"chance); {recall} (0 to 1)\n"
    )
