"""The manifest of an export: JSON lines that say which entries each piece was made from, and how."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.atomic import write_atomically
from ..common.errors import CacheError
from ..common.hashing import sha256_file
from ..common.quoting import printable, quoted
from ..common.reading import read_lines
from .names import Piece, Source
from .recipe import Recipe

Record = dict[str, Any]


def origin(source: Source, recipe: Recipe, format_name: str) -> Record:
    """Everything that determines what is written for a source: if it is equal, so are the files."""
    attributes = source.attributes
    copied = ("video_sha256", "model", "weights_sha256", "precision", "sampling", "created", "complete")
    return {
        "video": source.name,
        "entry": printable(str(source.entry_path)),
        **{name: getattr(attributes, name) for name in copied},
        "format": format_name,
        "recipe": recipe.as_dict(),
    }


class Manifest:
    """The pieces that are written: a list of records for each, by the name of the piece's first file.

    A record is an `origin` and: `rows`, `first_row` (in the piece), `files` (name, bytes, sha256), `clipcache_version`.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        """Read the manifest at `path`, if there is one, of files in `folder`.

        Lines that are not records of this program are left out; their pieces are written again.

        Raises:
            CacheError: if it cannot be read.
        """
        self._path = path
        self._folder = folder
        self._pieces: dict[str, list[Record]] = {}
        try:
            for line in read_lines(path):
                if (record := _parsed(line)) is not None:
                    self._add(record)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CacheError(f"Cannot read the manifest {quoted(path)} ({error.strerror or error})") from error

    def holds(self, piece: Piece, origins: Sequence[Record]) -> bool:
        """Whether the piece was written from exactly these origins, and its files still have their sizes."""
        records = self._pieces.get(piece.files[0], [])
        made_from = [{key: record.get(key) for key in one} for record, one in zip(records, origins, strict=False)]
        return made_from == list(origins) and len(records) == len(origins) and self._is_there(records[0])

    def put(self, piece: Piece, records: Sequence[Record]) -> None:
        """Record that a piece is written: in memory, and at the end of the file in case the run is killed."""
        files = self._described(piece.files)
        whole = [record | {"files": files} for record in records]
        self._pieces[piece.files[0]] = whole
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, whole)))

    def forget_others(self, files: Sequence[str]) -> list[Path]:
        """Forget the pieces whose first file is not among `files`; returns the files that they had."""
        others = [name for name in self._pieces if name not in set(files)]
        records = [self._pieces.pop(name)[0] for name in others]
        return [self._folder / one["name"] for record in records for one in record["files"]]

    def save(self) -> None:
        """Write the manifest again, without superseded records.

        Raises:
            CacheError: if it cannot be written.
        """
        text = "".join(_line(record) for records in self._pieces.values() for record in records)
        write_atomically(self._path, text.encode())

    def _add(self, record: Record) -> None:
        """Add a record; it replaces those of earlier versions of the same files."""
        known = self._pieces.setdefault(record["files"][0]["name"], [])
        if known and known[0]["files"] != record["files"]:
            known.clear()
        known.append(record)

    def _is_there(self, record: Record) -> bool:
        try:
            return all((self._folder / one["name"]).stat().st_size == one["bytes"] for one in record["files"])
        except OSError:
            return False

    def _described(self, files: Sequence[str]) -> list[Record]:
        paths = [self._folder / name for name in files]
        return [
            {"name": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for name, path in zip(files, paths, strict=True)
        ]


def _parsed(line: bytes) -> Record | None:
    """A record, or None for a line cut short, foreign, or leading out of the folder."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        record = json.loads(line)
        files = record["files"]
        if files and all(_is_description(one) for one in files):
            return dict(record)
    return None


def _is_description(one: Mapping[str, Any]) -> bool:
    path = Path(one["name"])
    is_name = b"\0" not in os.fsencode(path)  # a ValueError where it cannot be one at all
    return is_name and isinstance(one["bytes"], int) and not path.is_absolute() and ".." not in path.parts


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
