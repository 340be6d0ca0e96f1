"""NumPy's .npy format, written in pieces."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import numpy.typing as npt


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The bytes that come before the values of an array in C order."""
    header = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def write_npy(
    file: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any], blocks: Iterable[npt.NDArray[Any]]
) -> None:
    """Write an array (R, D) whose rows come in blocks."""
    file.write(npy_header(shape, dtype))
    for block in blocks:
        file.write(np.ascontiguousarray(block).data)


def npy_bytes(values: npt.ArrayLike) -> bytes:
    """A small array, or a number, as a .npy file."""
    file = io.BytesIO()
    np.save(file, np.asarray(values), allow_pickle=False)
    return file.getvalue()
