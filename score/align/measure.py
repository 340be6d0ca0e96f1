"""Align scores of cached videos: pairs of entries, anchors, bank, scores. Only words that are new are encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache import Entry
from ...cache.common.errors import EntryError, UsageError
from ...cache.common.quoting import quoted
from ...cache.format.schema import EXTRACT_AGAIN
from ...cache.select import Chosen
from ..compare import check_features
from ..read_files import StrPath
from ..references import ReferenceResolver, read_list
from ..similarity import Floats, compare_blocks, unit_rows
from .bank import FEW_ITEMS, MIN_ITEMS, Bank, made_with
from .cka import SharedChange, shared_change
from .relative import Retrieval, RunningMoments, pair_scores, representations, retrieval, window_means

PICTURE_TEMPLATE = "a photo of {}"
SOUND_TEMPLATE = "This is a sound of {}"
MIN_WORDS = 128
_BUNDLED = Path(__file__).with_name("vocabulary.txt")


@dataclass(frozen=True)
class Pair:
    """Picture and sound of one video."""

    picture: Chosen
    sound: Chosen


@dataclass(frozen=True)
class Anchors:
    """The features of the vocabulary in both spaces."""

    words: Sequence[str]
    pictures: NDArray[np.float32]  # (K, D), of "a photo of {}" by the picture model
    sounds: NDArray[np.float32]  # (K, E), of "This is a sound of {}" by the sound model


@dataclass(frozen=True)
class Described:
    """One video: the cosines of its windows with the anchors."""

    name: str
    sha256: str
    pictures: NDArray[np.float32]  # (M, K) cosines; NaN where a window has no frame
    sounds: NDArray[np.float32]  # (M, K) cosines; NaN where a window is silent
    starts_ms: NDArray[np.float64]  # (M,), from the first picture
    change: SharedChange | None  # None where it was not asked for, or there are too few windows


@dataclass(frozen=True)
class Aligned:
    """The align scores of a set."""

    videos: Sequence[Described]
    scores: NDArray[np.float64]  # (V, V): row of the picture, column of the sound; NaN where no window has both
    set: Retrieval | None  # None for fewer than two videos


def read_vocabulary(path: StrPath | None) -> list[str]:
    """The anchors' words, one a line; the bundled ones if `path` is None.

    Raises:
        UsageError: the file cannot be read, or holds fewer than MIN_WORDS different words.
    """
    return read_list(path, _BUNDLED, "vocabulary needs {} things", MIN_WORDS)


def pair_up(pictures: Sequence[Chosen], sounds: Sequence[Chosen]) -> list[Pair]:
    """Entries of the same content in both models, in the order of the pictures.

    Raises:
        UsageError: there is none.
    """
    heard = {one.attributes.video_sha256: one for one in sounds}
    pairs = [Pair(one, heard[one.attributes.video_sha256]) for one in pictures if one.attributes.video_sha256 in heard]
    if not pairs:
        raise UsageError(
            "No video here has both picture and sound in the cache", "run: clipcache extract VIDEO --audio"
        )
    return pairs


def make_anchors(words: Sequence[str], pictures: ReferenceResolver, sounds: ReferenceResolver) -> Anchors:
    """Encode the words with both models; each is encoded once and kept in the cache.

    Raises:
        ModelError: a model cannot be loaded.
    """
    return Anchors(words, _vectors(words, PICTURE_TEMPLATE, pictures), _vectors(words, SOUND_TEMPLATE, sounds))


def describe(pair: Pair, anchors: Anchors, silence_db: float, *, with_change: bool) -> Described:
    """Compare the windows of one video with the anchors, reading its features a block at a time.

    Args:
        pair: picture and sound.
        anchors: in both spaces.
        silence_db: windows below this level, in dB of full scale, count as silent.
        with_change: measure CKA too.

    Raises:
        CacheError: an entry cannot be read.
    """
    picture, sound = Entry(pair.picture.path), Entry(pair.sound.path)
    with picture.kept_open(), sound.kept_open():
        # Sound counts from the first picture; frames keep the container's clock.
        times_ms = picture.timestamps_ms - picture.zero_ms
        starts_ms, quality = sound.timestamps_ms, sound.quality
        if missing := {"duration_ms", "rms_db"} - set(quality):
            raise EntryError(f"{quoted(sound.path)} lacks the measure {min(missing)} of sound", EXTRACT_AGAIN)
        durations_ms = quality["duration_ms"].astype(np.float64)
        anchor_units = unit_rows(anchors.pictures).T
        cosines = (_checked_units(block, picture) @ anchor_units for block in picture.iter_features())
        seen = window_means(cosines, times_ms, starts_ms, durations_ms)
        features = sound.features
        check_features(features, sound)
        heard = compare_blocks([features], anchors.sounds).per_frame
        heard[quality["rms_db"] < silence_db] = np.nan
        change = None
        if with_change:
            frames = (unit_rows(block) for block in picture.iter_features())
            change = shared_change(window_means(frames, times_ms, starts_ms, durations_ms), unit_rows(features))
        return Described(picture.video_name, picture.video_sha256, seen, heard, starts_ms, change)


def _checked_units(block: Floats, picture: Entry) -> NDArray[np.float32]:
    units = unit_rows(block)
    check_features(units, picture)
    return units


def make_bank(described: Sequence[Described], pair: Pair, words: Sequence[str], warn: Callable[[str], None]) -> Bank:
    """Make a bank from the videos themselves.

    Raises:
        UsageError: they are fewer than MIN_ITEMS, or not one of their windows holds a frame or a sound.
    """
    held = [one for one in described if _holds_both(one)]
    if len(held) < MIN_ITEMS:
        raise UsageError(
            f"A bank needs {MIN_ITEMS} videos or more with picture and sound, and here are {len(held)}",
            ("extract more, or use a bank that was made of others: --bank FILE"),
        )
    if len(held) < FEW_ITEMS:
        warn(f"The bank is made of {len(held)} videos; below {FEW_ITEMS}, scores depend on which videos these are.")
    pictures, sounds = RunningMoments(), RunningMoments()
    for one in held:
        pictures.add(one.pictures)
        sounds.add(one.sounds)
    return Bank(pictures.result(), sounds.result(), len(held), bank_key(pair, words))


def bank_key(pair: Pair, words: Sequence[str]) -> str:
    """The hash that a bank for these words and models carries."""
    return made_with(words, pair.picture.attributes.weights_sha256, pair.sound.attributes.weights_sha256)


def align(described: Sequence[Described], bank: Bank) -> Aligned:
    """Score every picture with every sound."""
    pictures = [representations(one.pictures, bank.pictures) for one in described]
    sounds = [representations(one.sounds, bank.sounds) for one in described]
    scores = pair_scores(pictures, sounds)
    return Aligned(described, scores, retrieval(scores))


def _holds_both(one: Described) -> bool:
    return bool(np.isfinite(one.pictures).all(axis=1).any() and np.isfinite(one.sounds).all(axis=1).any())


def _vectors(words: Sequence[str], template: str, resolver: ReferenceResolver) -> NDArray[np.float32]:
    return np.stack([one.vector for one in resolver.texts([template.format(word) for word in words])])
