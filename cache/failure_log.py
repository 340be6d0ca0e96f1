"""What could not be extracted, one JSON object a line in `<cache>/failed.jsonl`, so that it is not tried every time."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .common.atomic import replacing
from .common.errors import CacheError
from .common.paths import StrPath
from .common.quoting import quoted
from .common.reading import read_lines

FILE_NAME = "failed.jsonl"
NO_AUDIO = "NoAudio"
"""The error of a video without an audio track: it is not tried every time, and does not count as a failure."""


@dataclass(frozen=True)
class Failure:
    """One input that could not be extracted.

    Attributes:
        path: of the input, as it was named.
        sha256: of its content, 64 hex digits; "" if it could not be read.
        error: class name of the error, "MediaError".
        sentence: text of the error.
        time: when, ISO 8601 in UTC.
        model_dir: folder of the model, "ViT-B-32-40d36571".
    """

    path: str
    sha256: str
    error: str
    sentence: str
    time: str
    model_dir: str

    @property
    def key(self) -> str:
        """Identifies the input: its sha256, or the path of what could not be read."""
        return self.sha256 or self.path


class FailureLog:
    """The failures of a cache. Several runs may append at the same time."""

    def __init__(self, cache_dir: StrPath) -> None:
        """Use the log of the cache at `cache_dir`; it need not exist."""
        self.path = Path(cache_dir, FILE_NAME)

    def read(self, model_dir: str | None = None) -> dict[str, Failure]:
        """The latest failure of each input by `Failure.key`, of one model if named.

        A line that cannot be parsed (cut short by a kill, edited by hand) is left out: its video is tried again.

        Raises:
            CacheError: if the log exists but cannot be read.
        """
        failures = [failure for failure in map(_parsed, self._lines()) if failure is not None]
        return {one.key: one for one in failures if model_dir is None or one.model_dir == model_dir}

    def append(self, failure: Failure) -> None:
        """Add one line, in one write, so that lines of several runs do not mix.

        Raises:
            CacheError: if the log cannot be written.
        """
        line = json.dumps(dataclasses.asdict(failure), allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                file.write(b"\n" + line if _is_torn(file) else line)
        except OSError as error:
            raise CacheError(f"Cannot write {quoted(self.path)} ({error.strerror or error})") from error

    def forget(self, keys: Collection[str], model_dir: str | None = None) -> None:
        """Drop the failures with these keys (sha256 or path), of one model if named, because a retry succeeded.

        A line that another run appends at the same moment may be lost; its video is then tried once more.

        Raises:
            CacheError: if the log cannot be read or written.
        """
        if any(_is_one_of(_parsed(line), keys, model_dir) for line in self._lines()):
            kept = (line for line in self._lines() if not _is_one_of(_parsed(line), keys, model_dir))
            with replacing(self.path) as temporary, temporary.open("xb") as file:
                file.writelines(line + b"\n" for line in kept)

    def _lines(self) -> Iterator[bytes]:
        """Each line; one that is longer than any failure is left out."""
        try:
            yield from read_lines(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CacheError(f"Cannot read {quoted(self.path)} ({error.strerror or error})") from error


def _is_torn(file: BinaryIO) -> bool:
    """Whether a kill left the last line without its end; it must not swallow the next one."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _parsed(line: bytes) -> Failure | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # thousands of brackets, for one
        return None
    names = {field.name for field in dataclasses.fields(Failure)}
    if not isinstance(values, dict) or set(values) != names:
        return None
    if not all(isinstance(value, str) for value in values.values()):
        return None
    return Failure(**values)


def _is_one_of(failure: Failure | None, keys: Collection[str], model_dir: str | None) -> bool:
    return failure is not None and failure.key in keys and model_dir in (None, failure.model_dir)
