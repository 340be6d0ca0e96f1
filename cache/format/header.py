"""The attributes of an HDF5 file's root group, read from the bytes of its object header.

HDF5 allocates what a text of variable length declares, and searches the heap that holds it, before anybody can ask how
long it is: of a hostile file of a few kilobytes it takes 4 GB, or never comes back. Here every size is checked before
it is read. It is also several times as fast as a call of HDF5 for each attribute.

The layout is that of the HDF5 File Format Specification: superblock and object headers of versions 1 and 2, messages of
the kinds "attribute" and "continuation", the global heap. Attributes outside the header, where HDF5 puts more than
eight in files made for its newest versions only, are not read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py

MAX_TEXT_BYTES = 4096
_MAX_HEADER_BYTES = 1 << 20  # of an entry's header: 6 KB
_MAX_HEAP_BYTES = 1 << 18  # HDF5 makes no heap beyond 64 KB for texts of at most MAX_TEXT_BYTES
_READ_AHEAD_BYTES = 1 << 14  # all attributes and texts of an entry as it is written

_CONTINUATION, _ATTRIBUTE, _ATTRIBUTE_INFO = 0x10, 0x0C, 0x15
_UNDEFINED_ADDRESS = 2**64 - 1
_STRING, _ENUM, _VARIABLE = 3, 8, 9  # classes of types
# Types as messages describe them, after the byte of version and class.
_INT64 = bytes.fromhex("080000 08000000 0000 4000")
_FLOAT64 = bytes.fromhex("203f00 08000000 0000 4000 34 0b 00 34 ff030000")
_ATTRIBUTE_HEAD = struct.Struct("<BBHHH")
_NUMBERS: dict[type, tuple[int, bytes, str]] = {int: (0, _INT64, "<q"), float: (1, _FLOAT64, "<d")}


class OtherLayoutError(ValueError):
    """The attributes are stored in a way that is not read here; they may be right."""


class _Message(NamedTuple):
    """An attribute as it is stored: its type, its shape and its value."""

    type: bytes
    space: bytes
    value: bytes


class StoredAttributes:
    """The attributes of the root group of an open file; each is decoded when it is asked for.

    What is damaged raises `ValueError`, attributes outside the header `OtherLayoutError`.
    """

    def __init__(self, file: h5py.File) -> None:
        self._descriptor: int = file.id.get_vfd_handle()
        self._head = os.pread(self._descriptor, _READ_AHEAD_BYTES, 0)
        self._heaps: dict[int, dict[int, bytes]] = {}
        try:
            self._messages = self._read_header(h5py.h5o.get_info(file.id).addr)
        except (struct.error, IndexError) as error:
            raise ValueError("its header is cut short") from error

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._messages

    def get(self, name: str, kind: type) -> Any:
        """The value of an attribute; None if it is not one `kind`: bool, int (64 bits), float (64 bits) or str.

        Args:
            name: of an attribute that is there.
            kind: what it must be; a text of more than `MAX_TEXT_BYTES` is not one.
        """
        message = self._messages[name.encode()]
        try:
            return self._decode(message, kind) if _is_scalar(message.space) else None
        except (struct.error, IndexError) as error:
            raise ValueError(f"its attribute {name} is cut short") from error

    def _decode(self, message: _Message, kind: type) -> Any:
        found = message.type[0] & 15
        if kind is str:
            text = self._text(message, found)
            return None if text is None else text.decode()
        size = int.from_bytes(message.type[4:8], "little")
        if kind is bool:
            return bool(message.value[0]) if found == _ENUM and size == 1 else None
        type_class, layout, code = _NUMBERS[kind]
        fits = found == type_class and message.type[1 : len(layout) + 1] == layout
        return struct.unpack_from(code, message.value)[0] if fits else None

    def _text(self, message: _Message, found: int) -> bytes | None:
        if found == _STRING:
            size = int.from_bytes(message.type[4:8], "little")
            return message.value[:size].rstrip(b"\0") if size <= MAX_TEXT_BYTES else None
        if found != _VARIABLE or message.type[1] & 15 != 1:  # 1: a text, not a list
            return None
        length, heap, index = struct.unpack_from("<IQI", message.value)
        if length > MAX_TEXT_BYTES:
            return None
        return self._from_heap(heap, index, length) if length else b""

    def _from_heap(self, address: int, index: int, length: int) -> bytes:
        if address not in self._heaps:
            self._heaps[address] = self._read_heap(address)
        text = self._heaps[address].get(index)
        if text is None or len(text) != length:
            raise ValueError("a text is not where the file says")
        return text

    def _read_heap(self, address: int) -> dict[int, bytes]:
        signature, size = struct.unpack("<4s4xQ", self._bytes(address, 16))
        if signature != b"GCOL" or not 16 <= size <= _MAX_HEAP_BYTES:
            raise ValueError("a heap of texts is not valid")
        heap, objects, at = self._bytes(address, size), {}, 16
        while at + 16 <= size:
            index, length = struct.unpack_from("<H6xQ", heap, at)
            if index == 0:  # the free space
                break
            objects[index] = heap[at + 16 : at + 16 + length]
            at += 16 + _padded(length, 8)
        return objects

    def _read_header(self, address: int) -> dict[bytes, _Message]:
        """The attributes in all blocks of an object header, by name."""
        prefix, blocks = self._first_block(address)
        messages: dict[bytes, _Message] = {}
        held = 0
        for at, size in blocks:  # grows
            held += max(size, 16)
            if held > _MAX_HEADER_BYTES:
                raise ValueError("its header is too large")
            for kind, body in _iter_messages(self._bytes(at, size), prefix):
                if kind == _CONTINUATION:
                    start, length = struct.unpack_from("<QQ", body)
                    # Blocks of the new kind have a signature and a checksum around their messages.
                    blocks.append((start + 4, length - 8) if prefix else (start, length))
                elif kind == _ATTRIBUTE_INFO and _has_heap(body):
                    raise OtherLayoutError("its attributes lie outside the header, in a heap, which is not read")
                elif kind == _ATTRIBUTE:
                    name, message = _parse_attribute(body)
                    if messages.setdefault(name, message) is not message:
                        raise ValueError(f"it has two attributes {name.decode(errors='replace')}")
        return messages

    def _first_block(self, address: int) -> tuple[int | None, list[tuple[int, int]]]:
        """Bytes before a message's body (None in old headers), and where the first messages lie: address and size."""
        head = self._bytes(address, 16)
        if head[0] == 1:
            return None, [(address + 16, int.from_bytes(head[8:12], "little"))]
        if head[:5] != b"OHDR\x02":
            raise ValueError("its header is of an unknown kind")
        flags = head[5]
        start = address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        size = int.from_bytes(self._bytes(start, width), "little")
        return 6 if flags & 4 else 4, [(start + width, size)]

    def _bytes(self, address: int, size: int) -> bytes:
        if address >= 0 and address + size <= len(self._head):
            return self._head[address : address + size]
        if not 0 <= size <= _MAX_HEADER_BYTES or address >= 1 << 62:
            raise ValueError("its header is too large")
        return os.pread(self._descriptor, size, address)


def _iter_messages(block: bytes, prefix: int | None) -> Iterator[tuple[int, bytes]]:
    """(kind, body) of each message of a block; `prefix` as `_first_block` gives it, None for old headers."""
    at, ahead, head = 0, prefix or 8, struct.Struct("<BH" if prefix else "<HH")
    while at + ahead <= len(block):
        kind, size = head.unpack_from(block, at)
        yield kind, block[at + ahead : at + ahead + size]
        at += ahead + size


def _has_heap(body: bytes) -> bool:
    """Whether a message "attribute info" says that attributes lie in a heap."""
    at = 4 if body[1] & 1 else 2
    return bool(struct.unpack_from("<Q", body, at)[0] != _UNDEFINED_ADDRESS)


def _parse_attribute(body: bytes) -> tuple[bytes, _Message]:
    version, flags, name_size, type_size, space_size = _ATTRIBUTE_HEAD.unpack_from(body)
    if version not in (1, 2, 3) or (version > 1 and flags):  # flags: a type that is stored elsewhere
        raise ValueError("an attribute is of an unknown kind")
    start, unit = 9 if version == 3 else 8, 8 if version == 1 else 1
    type_at = start + _padded(name_size, unit)
    space_at = type_at + _padded(type_size, unit)
    value_at = space_at + _padded(space_size, unit)
    name = body[start : start + name_size].rstrip(b"\0")
    return name, _Message(body[type_at:space_at], body[space_at:value_at], body[value_at:])


def _is_scalar(space: bytes) -> bool:
    return space[:2] == b"\x01\0" or (space[:2] == b"\x02\0" and space[3] == 0)


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
