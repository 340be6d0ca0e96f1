"""For tests of `aesthetic` and `benchmark`: the commands as users run them, small caches, entries with measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from click.testing import CliRunner, Result
from clipcache.cache import Entry, show_progress, write_entry
from clipcache.cache.common.hashing import DigestMemo
from clipcache.score.options import Wiring
from clipcache.score.references import ReferenceEncoder

ATTRIBUTES = """
pairs:
  one: {positive: x axis, negative: y axis}
positive: [x axis]
negative: [y axis]
"""


def run(command: click.Command, *words: object, load_encoder: Callable[..., ReferenceEncoder] | None = None) -> Result:
    """Run a command; the library's errors come out as they are. Without an encoder, the demo model is loaded."""
    from clipcache.extract.models.prompts import load_reference_encoder
    from clipcache.extract.models.weights import find_weights

    def no_frames(path: Path, timestamps_ms: Sequence[float]) -> Iterator[tuple[int, np.ndarray]]:
        raise AssertionError("no frame is needed")

    wiring = Wiring(
        load_encoder=load_encoder or load_reference_encoder,
        published_weights=lambda model, weights: find_weights(model, weights, DigestMemo()).sha256,
        run=lambda words: 0,
        frames_at=no_frames,
        published_model=lambda _: None,
        read_frames=lambda _: None,
        score_columns=lambda *_, **__: {},
    )
    with show_progress():  # as the program does
        result = CliRunner().invoke(command, [*map(str, words)], obj=wiring)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def add_measures(cache: Path, path: Path, measures: dict[str, Sequence[float]]) -> None:
    """Write an entry again, with measures of its frames."""
    entry = Entry(path)
    arrays = {name: np.array(values, np.float32) for name, values in measures.items()}
    features, times, index = entry.features, entry.timestamps_ms, entry.frame_index
    write_entry(cache, entry.attributes, features, times, index, entry.frame_names, quality=arrays)
