"""Encode pictures, sound, or both, of the same inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.common.errors import UsageError
from ..cache.format.names import is_clap
from .audio.plan import PreparedSound, prepare_sounds
from .audio.run import carry_out as carry_out_sound
from .audio.weights import check_name
from .inputs import find_items
from .options import ExtractOptions, SoundOptions
from .prepare import PreparedPictures, check_is_folder, prepare_items
from .progress import SoundSummary, Summary
from .run import carry_out


@dataclass(frozen=True)
class Outcome:
    """How the runs went; None for what was not asked for."""

    pictures: Summary | None
    sound: SoundSummary | None

    @property
    def failed(self) -> bool:
        """Whether something could not be extracted, now or before."""
        return any(one.failed or one.failed_before for one in (self.pictures, self.sound) if one is not None)

    def as_text(self) -> str:
        """For people."""
        return "\n".join(one.as_text() for one in (self.pictures, self.sound) if one is not None)

    def as_json(self) -> str:
        """For programs: one summary, or both by name."""
        return _json_of(self.pictures and self.pictures.as_dict(), self.sound and self.sound.as_dict())


@dataclass(frozen=True)
class Jobs:
    """Runs that can begin; None for what is not asked for, or has no inputs."""

    pictures: PreparedPictures | None
    sound: PreparedSound | None

    def as_text(self) -> str:
        """One line per item, pictures first."""
        return "\n".join(one.as_text() for one in (self.pictures, self.sound) if one is not None)

    def as_json(self) -> str:
        """A list of objects: path, kind, sha256, bytes, action; two lists by name where both are asked for."""
        return _json_of(self.pictures and self.pictures.rows(), self.sound and self.sound.rows())

    def carry_out(self) -> Outcome:
        """Encode all pictures, then all sounds.

        Raises:
            As `run.carry_out` and `audio.run.carry_out`.
        """
        pictures = carry_out(self.pictures) if self.pictures is not None else None
        return Outcome(pictures, carry_out_sound(self.sound) if self.sound is not None else None)


def decide(
    inputs: Sequence[str | os.PathLike[str]],
    list_file: Path | None,
    cache_dir: Path,
    options: ExtractOptions,
    sound: SoundOptions | None,
) -> Jobs:
    """Find the inputs and decide what to do with each.

    Args:
        inputs: files, folders and globs.
        list_file: a file with further paths.
        cache_dir: the cache that entries are written to.
        options: how to encode pictures; a model named "clap" means that only sound is encoded.
        sound: how to encode sound; None for pictures alone.

    Raises:
        UsageError: if there is nothing to work on, the model is unknown, or an option does not go with sound.
        ModelError: if a model's files do not exist or cannot be used.
    """
    check_is_folder(cache_dir)
    if is_clap(options.model):
        _check_sound_alone(options)
        items = find_items(inputs, list_file, sounds=True, shard=options.shard, on_left_out=lambda _: None)
        return Jobs(None, prepare_sounds(items, cache_dir, sound or SoundOptions()))
    if sound is None:
        return Jobs(prepare_items(find_items(inputs, list_file, shard=options.shard), cache_dir, options), None)
    items = find_items(inputs, list_file, sounds=True, shard=options.shard)
    with_pictures = [item for item in items if item.kind != "audio"]
    with_sound = [item for item in items if not item.images]
    # A shard without items has both summaries too.
    pictures = prepare_items(with_pictures, cache_dir, options) if with_pictures or not items else None
    return Jobs(pictures, prepare_sounds(with_sound, cache_dir, sound) if with_sound or not items else None)


def carry_out_on_ray(
    inputs: Sequence[str | os.PathLike[str]],
    list_file: Path | None,
    cache_dir: Path,
    options: ExtractOptions,
    sound: SoundOptions | None,
    address: str,
) -> Outcome:
    """Decide and encode on a Ray cluster; see `decide` and `ray_run.extract_on_ray`.

    Raises:
        UsageError: if sound is asked for, and as these.
    """
    from .cluster.ray_run import extract_on_ray

    if sound is not None:
        raise UsageError("--ray encodes pictures alone", "encode sound by a run without it")
    return Outcome(extract_on_ray(inputs, cache_dir, options, address, list_file=list_file), None)


def sound_options(
    options: ExtractOptions,
    *,
    audio: bool,
    directory: str | os.PathLike[str] | None,
    window_s: float,
    hop_s: float | None,
) -> SoundOptions | None:
    """How to encode sound, by the options of the command line; None if it is not asked for.

    Args:
        options: how to encode pictures; the device and others hold for sound too.
        audio: whether sound is asked for beside pictures.
        directory: the folder of a CLAP model.
        window_s: seconds of a window.
        hop_s: seconds from start to start; None for windows without gap or overlap.

    Raises:
        UsageError: if an option is out of range, or given without sound.
    """
    from .audio.windows import Windows

    windows = Windows(window_s, window_s if hop_s is None else hop_s)
    if not audio and not is_clap(options.model):
        if directory is not None or windows != Windows():
            raise UsageError("The options for sound need --audio, or --model clap for sound alone")
        return None
    if is_clap(options.model):
        directory = directory or options.weights
        if directory is None:
            check_name(options.model)
    return SoundOptions(
        weights=directory,
        windows=windows,
        device=options.device,
        batch_size=options.batch_size,
        dtype=options.dtype,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
        verbose=options.verbose,
        num_workers=options.num_workers,
        memory_limit=options.memory_limit,
        debug=options.debug,
        stall_seconds=options.stall_seconds,
        start_seconds=options.start_seconds,
        claims=options.claims,
        shard=options.shard,
        scratch=options.scratch,
        scratch_bytes=options.scratch_bytes,
    )


def _check_sound_alone(options: ExtractOptions) -> None:
    if not options.sampling.is_all or options.quality:
        raise UsageError(
            "--fps, --every and --quality are for pictures: with --model clap use --audio-window and --audio-hop"
        )


def _json_of(pictures: Any, sound: Any) -> str:
    if pictures is None or sound is None:
        return json.dumps(sound if pictures is None else pictures, indent=2, allow_nan=False)
    return json.dumps({"pictures": pictures, "sound": sound}, indent=2, allow_nan=False)
