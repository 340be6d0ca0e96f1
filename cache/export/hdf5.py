"""One HDF5 file: a dataset a video, the flat layout of MAD, or a group a video with all that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from ..common.exported import METADATA
from ..format.output import new_hdf5_file
from ..format.schema import storable_text, write_attributes
from .rows import Rows


def write_flat(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write one dataset (R, D) for each video, under its name, with the attribute `metadata`: JSON."""
    (path,) = paths
    with new_hdf5_file(path) as file:
        for rows in videos:
            _write_features(file, rows.name, rows)
            file[rows.name].attrs[METADATA] = rows.metadata_json


def write_nested(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write one group for each video: the datasets of an entry, the cosines, every attribute, and `metadata`: JSON."""
    (path,) = paths
    with new_hdf5_file(path) as file:
        for rows in videos:
            group = file.create_group(rows.name)
            write_attributes(group, rows.attributes)
            group.attrs["rows_per_second"] = rows.fps
            group.attrs[METADATA] = rows.metadata_json
            _write_features(group, "features", rows)
            group["timestamps_ms"] = rows.timestamps_ms
            group["frame_index"] = rows.frame_index
            if rows.frame_names is not None:
                group["frame_names"] = np.array([storable_text(name).encode() for name in rows.frame_names])
            if rows.cosines:
                group["texts"] = np.array([text.encode() for text in rows.cosines])
                group["cosine"] = np.stack(list(rows.cosines.values()), axis=1)


def _write_features(group: h5py.Group, name: str, rows: Rows) -> None:
    """Contiguous: readers take whole videos or runs of rows, and HDF5's chunks would cost them ten times as long."""
    dataset = group.create_dataset(name, shape=rows.shape, dtype=rows.dtype)
    for where, block in rows.numbered_blocks():
        dataset[where] = block
