"""What was found out about inputs elsewhere: checksums, and what is in tars, so that nothing is fetched to know it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

from ...cache.common.hashing import is_sha256, memo_path

_TABLE = "CREATE TABLE IF NOT EXISTS elsewhere (name TEXT PRIMARY KEY, stamp TEXT NOT NULL, said TEXT NOT NULL)"
_BUSY_TIMEOUT_S = 5.0


class Memory:
    """Remembers by name and stamp, in the database of checksums; where that cannot be used, nothing is remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def sha256(self, key: str, stamp: str | None) -> str | None:
        """The checksum of a blob's content, 64 hex digits, if it is known."""
        said = self._said(f"sha256 {key}", stamp)
        return said if said is not None and is_sha256(said) else None

    def remember_sha256(self, key: str, stamp: str | None, sha256: str) -> None:
        """Take in the checksum of a content; without a stamp it is not known when it changes."""
        self._remember(f"sha256 {key}", stamp, sha256)

    def members(self, key: str, stamp: str | None) -> str | None:
        """What is in a tar, as text of the caller, if it is known."""
        return self._said(f"members {key}", stamp)

    def remember_members(self, key: str, stamp: str | None, text: str) -> None:
        """Take in what is in a tar."""
        self._remember(f"members {key}", stamp, text)

    def _said(self, key: str, stamp: str | None) -> str | None:
        if stamp is None:
            return None
        rows = self._carry_out("SELECT said FROM elsewhere WHERE name = ? AND stamp = ?", key, stamp)
        return str(rows[0][0]) if rows else None

    def _remember(self, key: str, stamp: str | None, said: str) -> None:
        if stamp is not None:
            self._carry_out("INSERT OR REPLACE INTO elsewhere VALUES (?, ?, ?)", key, stamp, said)

    def _carry_out(self, statement: str, *values: str) -> list[tuple[object, ...]]:
        """Each in a connection of its own, as it comes from any thread, and seldom compared with what it saves."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError, UnicodeError):
            database = memo_path()
            database.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S)) as connection, connection:
                connection.execute(_TABLE)
                return connection.execute(statement, values).fetchall()
        return []
