"""Decode packets with decord: remuxed into memory, strictly forward, and never trusted beyond the count of frames."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import av

from .decord_log import watched


class DecordRefusedError(Exception):
    """decord failed on a segment, or returned something else than the frames that the index promises."""


def decord_frames(packets: Sequence[Any], stream: Any, rotation: int, threads: int) -> Iterator[Any]:
    """Decode packets of a stream; yields decord's arrays, (H, W, 3), in presentation order, not rotated.

    Raises:
        DecordRefusedError: decord cannot decode all of them, or not without damage.
    """
    return _read(remux(packets, stream, rotation), threads)


def remux(packets: Sequence[Any], stream: Any, rotation: int) -> io.BytesIO:
    """Write packets into a container in memory, unchanged but for a clock that starts at zero.

    Matroska holds most codecs, NUT the rest; NUT carries no rotation, which decord would apply on its own.

    Raises:
        DecordRefusedError: neither container can hold the stream.
    """
    for name in ("nut",) if rotation else ("matroska", "nut"):
        buffer = io.BytesIO()
        try:
            _mux(packets, stream, buffer, name)
        except (av.FFmpegError, ValueError):
            continue
        buffer.seek(0)
        return buffer
    raise DecordRefusedError("no container in memory holds this codec")


def _mux(packets: Sequence[Any], stream: Any, buffer: io.BytesIO, container_format: str) -> None:
    start = min(p.pts if p.dts is None else min(p.pts, p.dts) for p in packets)
    with av.open(buffer, "w", format=container_format) as container:
        out = container.add_stream_from_template(stream, opaque=True)
        for packet in packets:
            if packet.has_sidedata("new_extradata") or packet.has_sidedata("palette"):
                raise ValueError("a copied packet loses its side data")
            copy = av.Packet(bytes(packet))
            copy.pts = packet.pts - start
            copy.dts = None if packet.dts is None else packet.dts - start
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, out
            container.mux(copy)


def _read(container: io.BytesIO, threads: int) -> Iterator[Any]:
    decord = import_decord()
    with watched(decord) as log:
        reader = None
        try:
            # fault_tol=0 is ignored; any tiny fraction makes decord raise instead of repeating what it cannot decode.
            reader = decord.VideoReader(container, num_threads=threads, fault_tol=1e-9)
            yield from _until_end(reader)
        except (decord.DECORDError, decord.DECORDLimitReachedError, AssertionError, RuntimeError) as error:
            raise DecordRefusedError(str(error)) from error
        finally:
            del reader  # ends its threads, while their messages can still be heard
    if log.messages:
        raise DecordRefusedError(f"FFmpeg complains: {log.messages[0]!r}")


def _until_end(reader: Any) -> Iterator[Any]:
    while True:
        try:
            frame = reader.next()
        except StopIteration:
            return
        yield frame


def import_decord() -> Any:
    """Import decord without the CUDA libraries that it would load.

    decord2 opens every library below the `nvidia` namespace package, 600 MB resident in each worker, for a GPU decoder
    that is not used here. It looks for the package with `find_spec`, which answers None for a blocked name.
    """
    if "decord" in sys.modules:
        return sys.modules["decord"]
    missing = object()
    before: Any = sys.modules.get("nvidia", missing)
    sys.modules["nvidia"] = None  # type: ignore[assignment]
    try:
        decord = importlib.import_module("decord")
    finally:
        if before is missing:
            del sys.modules["nvidia"]
        else:
            sys.modules["nvidia"] = before
    decord.logging.set_level(decord.logging.QUIET)
    return decord
