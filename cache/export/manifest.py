"""The manifest of an export: JSON lines that say which entries each piece was made from, and how.

The records of a piece are written before its files get their names. So a run that is killed in between has made no file
that the manifest does not name; whether a file is what was recorded, its checksum tells. Until that is so, earlier
records of the file are kept too: it may still have the content that one of them describes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.atomic import write_atomically
from ..common.errors import CacheError, UsageError
from ..common.exported import Record, parse_record
from ..common.hashing import Digests, sha256_file
from ..common.paths import exists
from ..common.quoting import printable, quoted
from ..common.reading import MAX_LINE_BYTES, open_regular
from .names import Piece, Source
from .recipe import Recipe

_BEGINNING = '{"video": '  # of each line


def origin(source: Source, recipe: Recipe, format_name: str, entry_sha256: str) -> Record:
    """Everything that determines what is written for a source: if it is equal, so are the files."""
    return {
        "video": source.name,
        "entry": printable(str(source.entry_path)),
        "entry_sha256": entry_sha256,
        "attributes": dataclasses.asdict(source.attributes),
        "format": format_name,
        "recipe": recipe.as_dict(),
    }


class Manifest:
    """The pieces that are written: a list of records for each, by the name of the piece's first file.

    A record is an `origin` and: `rows_per_second`, `rows`, `first_row` (in the piece), `files` (name, bytes, sha256),
    `clipcache_version`.
    """

    def __init__(self, path: Path, folder: Path, digests: Digests) -> None:
        """Read the manifest at `path`, if there is one, of files in `folder`; `digests` remembers their checksums.

        Raises:
            CacheError: if it cannot be read.
            UsageError: if the file is not a manifest of this program.
        """
        self._path = path
        self._folder = folder
        self._digests = digests
        self._pieces: dict[str, list[Record]] = {}
        self._superseded: dict[str, list[Record]] = {}
        self._made: dict[str, list[Record]] = {}  # by name, each description of the file that was ever recorded
        try:
            with open_regular(path) as file:
                while line := file.readline(MAX_LINE_BYTES):
                    self._read(line.decode(errors="replace"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise CacheError(f"Cannot read the manifest {quoted(path)} ({error.strerror or error})") from error

    def holds(self, piece: Piece, origins: Sequence[Record]) -> bool:
        """Whether the piece was written from exactly these origins, and its files are still what was written."""
        records = self._pieces.get(piece.files[0], [])
        made_from = [{key: record.get(key) for key in one} for record, one in zip(records, origins, strict=False)]
        return (
            made_from == json.loads(json.dumps(list(origins), allow_nan=False))
            and len(records) == len(origins)
            and all(map(self._is_there, records[0]["files"]))
        )

    def foreign(self, piece: Piece) -> Path | None:
        """What lies where a file of the piece belongs and was not made by an export here; None if nothing does.

        The content counts: a recorded file that somebody has changed or replaced since is theirs.
        """
        paths = {name: self._folder / name for name in piece.files}
        in_the_way = (path for name, path in paths.items() if exists(path) and not self._is_made(name))
        return next(in_the_way, None)

    def put(self, piece: Piece, records: Sequence[Record], contents: Sequence[Path]) -> None:
        """Record a piece whose files are about to get their names: in memory, and at the end of the file.

        Args:
            piece: what is written.
            records: one for each of its sources.
            contents: where its files lie now.
        """
        files = [
            {"name": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for name, path in zip(piece.files, contents, strict=True)
        ]
        whole = [record | {"files": files} for record in records]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, whole)))
            file.flush()
            os.fsync(file.fileno())  # before the files have their names, whatever happens to the machine
        self._supersede(piece.files[0])
        self._pieces[piece.files[0]] = whole
        self._know(whole[0])

    def forget_others(self, files: Sequence[str], format_name: str) -> list[Path]:
        """Forget the pieces of a format whose first file is not among `files`.

        Exports in other formats may share the folder: theirs are kept.

        Returns:
            What is left of the files that they had.
        """
        of_format = [name for name, records in self._pieces.items() if records[0].get("format") == format_name]
        others = [name for name in of_format if name not in set(files)]
        records = [self._pieces.pop(name)[0] for name in others]
        return [self._folder / one["name"] for record in records for one in record["files"] if self._is_there(one)]

    def save(self) -> None:
        """Write the manifest again, without the superseded records of files that are what the last ones say.

        Raises:
            CacheError: if it cannot be written.
        """
        kept: list[Record] = []
        for name, records in self._pieces.items():
            superseded = self._superseded.get(name, [])
            if superseded and not all(map(self._is_there, records[0]["files"])):
                kept += superseded
            kept += records
        write_atomically(self._path, "".join(map(_line, kept)).encode())

    def _read(self, line: str) -> None:
        """Add the record of a line; of a run that was killed the last line may be incomplete."""
        record = parse_record(line)
        if record is not None:
            self._add(record)
        elif line.strip("\0 \r\n") and (line.endswith("\n") or not line.startswith(_BEGINNING[: len(line)])):
            raise UsageError(
                f"{quoted(self._path)} is not the manifest of an export", "choose another --output, or move it away"
            )

    def _add(self, record: Record) -> None:
        """Add a record; it replaces those of earlier versions of the same files."""
        name = record["files"][0]["name"]
        known = self._pieces.get(name, [])
        if known and known[0]["files"] != record["files"]:
            self._supersede(name)
        self._pieces.setdefault(name, []).append(record)
        self._know(record)

    def _supersede(self, name: str) -> None:
        """Put aside the records of the piece whose first file has that name, if there are any."""
        self._superseded.setdefault(name, []).extend(self._pieces.pop(name, []))

    def _know(self, record: Record) -> None:
        for one in record["files"]:
            made = self._made.setdefault(one["name"], [])
            if one not in made:
                made.append(one)

    def _is_made(self, name: str) -> bool:
        """Whether the file of that name is what one of its records says."""
        return any(map(self._is_there, self._made.get(name, [])))

    def _is_there(self, file: Mapping[str, Any]) -> bool:
        """Whether a recorded file is there with the content that it had."""
        path = self._folder / file["name"]
        try:
            return bool(path.stat().st_size == file["bytes"] and self._digests.sha256(path) == file["sha256"])
        except (OSError, UsageError):
            return False


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
