"""One file per video that `torch.load(path, weights_only=True)` reads: a dict of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .pickled import as_dict
from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write a dict of `features` (R, D), `timestamps_ms`, `frame_index`, `fps`, `metadata` (JSON) and the cosines."""
    import torch

    (path,) = paths
    for rows in videos:
        values = as_dict(rows).items()
        tensors = {key: torch.tensor(one) if isinstance(one, np.ndarray) else one for key, one in values}
        with path.open("wb") as file:
            torch.save(tensors, file)
