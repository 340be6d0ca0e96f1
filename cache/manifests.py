"""The manifests of exports, which say of formats without room for it how their features were made."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .common.errors import UsageError
from .common.exported import MANIFEST, Record, parse_record
from .common.hashing import Digests
from .common.paths import is_file
from .common.reading import read_lines

_MAX_BYTES = 1 << 30


class Manifests:
    """Finds what the manifest beside a file, or in a folder above it, says of the file.

    Args:
        digests: computes or remembers the checksum of a file, which must be that of the manifest.
    """

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._read: dict[Path, dict[str, dict[str, Record]]] = {}

    def metadata(self, path: Path, name_of_video: str = "") -> Mapping[str, Any] | None:
        """What an export wrote down about a video in a file, any of them by default.

        None if it did not, or the file has changed since.
        """
        path = path.absolute()
        for manifest in (path.with_name(f"{path.name}.{MANIFEST}"), *(above / MANIFEST for above in path.parents)):
            name = path.relative_to(manifest.parent).as_posix()
            records = self._records(manifest).get(name, {})
            is_any = len(records) == 1 or not name_of_video
            record = next(iter(records.values()), None) if is_any else records.get(name_of_video)
            if record is not None:
                return self._believed(record, path, name)
        return None

    def _believed(self, record: Record, path: Path, name: str) -> Mapping[str, Any] | None:
        attributes = record.get("attributes")
        recorded = {one["sha256"] for one in record["files"] if one["name"] == name}
        with contextlib.suppress(UsageError):
            if isinstance(attributes, dict) and self._digests.sha256(path) in recorded:
                return attributes | {key: record.get(key) for key in ("rows_per_second", "recipe")}
        return None

    def _records(self, manifest: Path) -> dict[str, dict[str, Record]]:
        """The record of each video in each file of a manifest, as the file was made last; none if it is not one."""
        if manifest not in self._read:
            found: dict[str, dict[str, Record]] = defaultdict(dict)
            for record in filter(None, map(parse_record, _lines(manifest))):
                for one in record["files"]:
                    known = found[one["name"]]
                    if known and next(iter(known.values()))["files"] != record["files"]:
                        known.clear()
                    known[record["video"]] = record
            self._read[manifest] = found
        return self._read[manifest]


def _lines(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        if is_file(path) and path.stat().st_size <= _MAX_BYTES:
            yield from (line.decode(errors="replace") for line in read_lines(path))
