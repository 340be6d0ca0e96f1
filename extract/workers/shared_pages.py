"""Pages of shared memory through which resized frames, or samples of sound, reach the encoder.

The memory has no name: it lives as long as a process holds its descriptor, so that neither kill -9 nor a crash can
leave anything behind, and a container's small /dev/shm does not limit it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

PAGES = 2
"""Two pages per worker: one is filled while the other is read."""

_PAGE_BYTES = 8 << 20

PAGE_SAMPLES = _PAGE_BYTES // 4
"""Samples of sound that one page holds: 43 seconds at 48 kHz."""


def page_frames(size: int) -> int:
    """Pictures of size x size x 3 bytes that one page holds."""
    return max(1, _PAGE_BYTES // (size * size * 3))


class SharedPages:
    """PAGES pages of (frames, size, size, 3) uint8 pictures, or of (PAGE_SAMPLES,) float32 samples.

    Args:
        size: side of a picture in pixels; None for pages of samples.
        descriptor: the memory of another process to join; None makes new memory.
    """

    def __init__(self, size: int | None, descriptor: int | None = None) -> None:
        shape = (PAGES, PAGE_SAMPLES) if size is None else (PAGES, page_frames(size), size, size, 3)
        dtype = np.dtype(np.float32 if size is None else np.uint8)
        length = int(np.prod(shape)) * dtype.itemsize
        self.descriptor = anonymous_memory(length) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, length)
        self._pages: npt.NDArray[Any] = np.frombuffer(self._memory, dtype).reshape(shape)

    def __getitem__(self, page: int) -> npt.NDArray[Any]:
        """One page, shared."""
        view: npt.NDArray[Any] = self._pages[page]
        return view

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Give the memory back if what follows fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the memory back; views of it must be gone by now or keep it alive until they are."""
        os.close(self.descriptor)
        del self._pages


def anonymous_memory(length: int) -> int:
    """The descriptor of new memory of so many bytes, which others can join."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("clipcache-pages", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, length)
    return descriptor
