"""Inputs elsewhere, one by one: what each is called, what is known of it, and its bytes."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from ...cache.common.errors import NotReadNowError, UsageError
from ...cache.common.hashing import natural_key
from ...cache.common.quoting import quoted
from ...cache.common.urls import is_url, without_credentials
from .blobs import Blob, BlobError, LocalBlob, Status, copy_blob
from .memory import Memory
from .names import escaped, expand_braces, is_tar, is_web, kind_of, without_user_alone
from .objects import find_objects, listed_prefix
from .tars import Member, Tar
from .web import WebBlob

_AT_ONCE = 8


class Source(Protocol):
    """An input that is not a file of this disk."""

    @property
    def name(self) -> str:
        """What is shown and stored, without credentials."""

    @property
    def relative(self) -> str:
        """Its name within what was listed, the same from wherever it is asked for."""

    @property
    def kind(self) -> str:
        """What it is: "video" or "audio"."""

    @property
    def key(self) -> str:
        """Names it whoever asks; no two inputs of a run have the same."""

    @property
    def lane(self) -> object:
        """Sources with the same are to be copied one after the other; None for no matter."""

    def status(self) -> Status:
        """Size and stamp, without fetching it.

        Raises:
            NotReadNowError: if it is not there, or cannot be asked.
        """
        ...

    def copy(self, write: Callable[[bytes], object]) -> None:
        """Give its bytes to `write`, in blocks.

        Raises:
            NotReadNowError: if not all of them come.
        """
        ...


@dataclass(frozen=True)
class BlobSource:
    """A file or an object by itself; see `Source`."""

    blob: Blob
    relative: str
    kind: str
    lane: object = None

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.blob.name

    @property
    def key(self) -> str:
        """See `Source`."""
        return self.blob.key

    def status(self) -> Status:
        """See `Source`."""
        try:
            return self.blob.status()
        except BlobError as error:
            raise _not_read(self.name, error.reason) from None

    def copy(self, write: Callable[[bytes], object]) -> None:
        """See `Source`."""
        try:
            copy_blob(self.blob, write)
        except BlobError as error:
            raise _not_read(self.name, error.reason) from None


@dataclass(frozen=True)
class MemberSource:
    """A member of a tar; see `Source`."""

    tar: Tar
    member: Member
    relative: str
    kind: str

    @property
    def name(self) -> str:
        """See `Source`."""
        path = _below(self.member.path)
        return f"{self.tar.name}/{escaped(path) if is_url(self.tar.name) else path}"

    @property
    def key(self) -> str:
        """See `Source`; a tar may hold two members of one name."""
        return f"{self.tar.blob.key}/{self.member.path}@{self.member.offset}"

    @property
    def lane(self) -> object:
        """See `Source`."""
        return self.tar if self.tar.is_sequential else None

    def status(self) -> Status:
        """See `Source`."""
        try:
            stamp = self.tar.status().stamp
        except BlobError as error:
            raise _not_read(self.name, error.reason) from None
        return Status(self.member.size, stamp and f"{stamp} {self.member.offset} {self.member.size}")

    def copy(self, write: Callable[[bytes], object]) -> None:
        """See `Source`."""
        try:
            self.tar.copy(self.member, write)
        except BlobError as error:
            raise _not_read(self.name, error.reason) from None


@dataclass(frozen=True)
class Unreadable:
    """What could not be listed, so that its failure is reported with the others'; see `Source`."""

    name: str
    relative: str
    reason: str
    kind: str = "video"
    lane: object = None

    @property
    def key(self) -> str:
        """See `Source`."""
        return f"{self.name} {self.reason}"

    def status(self) -> Status:
        """See `Source`."""
        raise _not_read(self.name, self.reason)

    def copy(self, write: Callable[[bytes], object]) -> None:  # noqa: ARG002  nothing comes
        """See `Source`."""
        raise _not_read(self.name, self.reason)


def is_elsewhere(name: str) -> bool:
    """Whether `find_sources` is to be asked for a name: a URL or a tar, of this disk too, but not a folder."""
    return is_url(name) or (is_tar(name) and not os.path.isdir(name))  # noqa: PTH112  a name may be too long


def find_sources(name: str, said: str, *, sounds: bool) -> Iterator[Source]:
    """The inputs that a URL, a tar or a pattern of either stands for.

    Args:
        name: of a URL, of a tar, or a pattern.
        said: as the user spelled it: the list of a tar may lie elsewhere.
        sounds: whether audio files, known by their suffix, are inputs too.

    Raises:
        UsageError: if a pattern has too many names, or a package is not installed.
    """
    try:
        names = expand_braces(name)
    except ValueError:
        raise UsageError(
            f"{quoted(without_credentials(name))} stands for more than a million names", "name fewer at once"
        ) from None
    blobs = itertools.chain.from_iterable(_blobs(one, said if one == name else one) for one in names)
    memory = Memory()
    with ThreadPoolExecutor(_AT_ONCE) as threads:  # each tar is asked several times, from far away
        for found in threads.map(lambda one: list(_sources(*one, memory=memory, sounds=sounds)), list(blobs)):
            yield from found


def _blobs(name: str, said: str) -> Iterator[tuple[Blob | Unreadable, str, bool]]:
    """What a name stands for, each with its name within what is listed, and whether it was named itself."""
    if is_web(name):
        yield _web_blob(name)
    elif is_url(name):
        prefix, scheme = listed_prefix(name), name.partition("://")[0]
        for found in find_objects(name):
            if isinstance(found, tuple):
                yield Unreadable(found[0], found[0], found[1]), found[0], True
                continue
            plain = without_user_alone(name)
            is_named = found.key == plain
            relative = found.key if is_named else found.key.removeprefix(prefix)
            is_pattern = prefix.rstrip("/") != plain.rstrip("/")
            if is_named or is_pattern or not is_tar(f"{scheme}://{relative}"):
                yield found, relative, is_named
    else:
        matches = sorted(glob.glob(name, recursive=True), key=natural_key)  # noqa: PTH207  patterns may be absolute
        is_literal = os.path.lexists(name) or not glob.has_magic(name)
        for path in [name] if is_literal else matches:
            yield LocalBlob(Path(path)), PurePath(said if is_literal else path).as_posix(), True


def _web_blob(url: str) -> tuple[Blob | Unreadable, str, bool]:
    try:
        blob = WebBlob(url)
    except ValueError:  # whose text may hold credentials
        name = without_credentials(url)
        return Unreadable(name, name, "the URL is not valid"), name, True
    return blob, blob.key, True


def _sources(
    blob: Blob | Unreadable, relative: str, is_named: bool, *, memory: Memory, sounds: bool
) -> Iterable[Source]:
    if isinstance(blob, Unreadable):
        return [blob]
    if is_tar(blob.name):
        return _members(Tar(blob), relative, memory, sounds=sounds)
    kind = kind_of(blob.name, sounds=sounds) or ("video" if is_named else "")
    return [BlobSource(blob, relative, kind)] if kind else []


def _members(tar: Tar, relative: str, memory: Memory, *, sounds: bool) -> Iterator[Source]:
    """The videos of a tar, whose other files are ignored: labels, pictures, sound that is not asked for."""
    try:
        members, problem = tar.members(memory)
    except BlobError as error:
        yield Unreadable(tar.name, relative, error.reason)
        return
    for member in members:
        if kind := kind_of(member.path, sounds=sounds):
            yield MemberSource(tar, member, f"{relative}/{_below(member.path)}", kind)
    if problem:
        yield Unreadable(tar.name, relative, problem)


def _below(path: str) -> str:
    """The path of a member without what would lead out of the tar, if it were a folder."""
    return "/".join(part for part in path.split("/") if part not in ("", ".", ".."))


def _not_read(name: str, reason: str) -> NotReadNowError:
    return NotReadNowError(f"Cannot read {quoted(name)}: {reason}")
