"""A small library of synthetic videos with known content: what `clipcache demo` writes, and what the tests ask about.

Each video is a list of shots; each shot shows one scene for a known time, still or moving. `truth.json` beside the
videos says what is shown when.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..cache.common.atomic import replacing, write_atomically
from ..cache.common.errors import UsageError
from ..cache.common.paths import is_file, is_folder
from ..cache.common.quoting import quoted
from .scenes import Background, Qualities, Scene, Thing, render

SIZE = (320, 240)
FPS = 24
TRUTH_FILE = "truth.json"
_MUXERS = {".mp4": "mp4", ".mkv": "matroska"}  # FFmpeg's names
_TICKS = 1000  # per second: fine enough for a variable frame rate


@dataclass(frozen=True)
class Shot:
    """A scene shown for a while.

    Attributes:
        caption: what is shown, as one would ask for it.
        seconds: how long.
        scene: what is drawn.
        moving: whether its things drift; a still shot repeats one frame.
    """

    caption: str
    seconds: float
    scene: Scene
    moving: bool = True


@dataclass(frozen=True)
class DemoVideo:
    """One video of the library.

    Attributes:
        name: file name.
        about: what it is there for.
        shots: one after another.
        variable_rate: whether the time between frames varies, from 1/48 to 1/12 s.
    """

    name: str
    about: str
    shots: tuple[Shot, ...]
    variable_rate: bool = False


@dataclass(frozen=True)
class Interval:
    """A line of `truth.json`: what is shown from `start_s` to `end_s` (exclusive) of a video."""

    video: str
    start_s: float
    end_s: float
    caption: str


def _shot(caption: str, things: tuple[Thing, ...], background: Background, seconds: float = 4.0, **how: bool) -> Shot:
    return Shot(caption, seconds, Scene(things, background), **how)


_GREY = Background("plain", (150, 150, 150), (150, 150, 150), color="grey")
_DUSK = Background("gradient", (52, 56, 84), (120, 110, 130), angle=60)
_SAND = Background("gradient", (222, 206, 170), (180, 160, 130), angle=20)
_CHECKS = Background("checkered", (186, 190, 196), (150, 154, 160), period=0.25)
_STRIPES = Background("striped", (206, 200, 190), (176, 170, 160), angle=30, period=0.2)
_SPECKLES = Background("noisy", (140, 146, 150), (110, 116, 120), seed=3)
_HEART = (Thing("heart", "red", size=0.55),)


def _quality(caption: str, **qualities: float) -> Shot:
    return Shot(caption, 3.0, Scene(_HEART, _SAND, Qualities(**qualities)), moving=False)


LIBRARY = (
    DemoVideo(
        "shapes.mp4",
        "four things, one after another",
        (
            _shot("a red circle", (Thing("circle", "red"),), _GREY),
            _shot("a blue square", (Thing("square", "blue"),), _SAND),
            _shot("a green triangle", (Thing("triangle", "green"),), _STRIPES),
            _shot("a yellow star", (Thing("star", "yellow", size=0.55),), _DUSK),
        ),
    ),
    DemoVideo(
        "encore.mp4",
        "some of them again, elsewhere: the same content in another video",
        (
            _shot("a yellow star", (Thing("star", "yellow", size=0.45, turn=20),), _CHECKS),
            _shot("a blue square", (Thing("square", "blue", size=0.4, turn=15),), _DUSK),
            _shot("a red circle", (Thing("circle", "red", size=0.4),), _SPECKLES),
        ),
    ),
    DemoVideo(
        "pairs.mp4",
        "two things at a time",
        (
            _shot(
                "a purple heart and an orange cross",
                (Thing("heart", "purple", -0.22, size=0.38), Thing("cross", "orange", 0.22, size=0.38)),
                _GREY,
            ),
            _shot(
                "two green squares",
                (Thing("square", "green", -0.22, size=0.36), Thing("square", "green", 0.22, 0.05, size=0.36)),
                _SAND,
            ),
            _shot(
                "a pink ring and a black star",
                (Thing("ring", "pink", -0.22, size=0.38), Thing("star", "black", 0.22, size=0.4)),
                _STRIPES,
            ),
        ),
    ),
    DemoVideo(
        "still.mp4",
        "long still stretches: frames that need not be encoded again",
        (
            _shot("an orange ring", (Thing("ring", "orange"),), _DUSK, 6.0, moving=False),
            _shot("a white cross", (Thing("cross", "white"),), _SPECKLES, 3.0),
            _shot("a cyan triangle", (Thing("triangle", "cyan"),), _GREY, 6.0, moving=False),
        ),
    ),
    DemoVideo(
        "variable.mkv",
        "a variable frame rate",
        (
            _shot("a pink heart", (Thing("heart", "pink"),), _DUSK),
            _shot("a black square", (Thing("square", "black", size=0.45),), _SAND),
            _shot("a green star", (Thing("star", "green", size=0.55),), _GREY),
        ),
        variable_rate=True,
    ),
    DemoVideo(
        "qualities.mp4",
        "one picture, well and badly taken",
        (
            _quality("a sharp photo"),
            _quality("a blurry photo", blur=0.03),
            _quality("a dark photo", exposure=0.28),
            _quality("a noisy photo", noise=40.0),
            _quality("a black and white photo", saturation=0.0),
        ),
    ),
)


def write_library(folder: Path) -> list[Interval]:
    """Write `truth.json` and all videos into a folder; what an earlier call wrote whole is left as it is.

    Returns:
        What is shown when, over all videos.

    Raises:
        UsageError: if the folder holds something and not this `truth.json`: its files are somebody's own.
        CacheError: if something cannot be written.
    """
    truth = [interval for video in LIBRARY for interval in intervals(video)]
    text = json.dumps([asdict(interval) for interval in truth], indent=2, allow_nan=False) + "\n"
    if is_folder(folder) and any(folder.iterdir()) and not _holds(folder / TRUTH_FILE, text):
        raise UsageError(f"The folder {quoted(folder)} holds files that are not the demo's", "choose another folder")
    write_atomically(folder / TRUTH_FILE, text.encode())  # first, so that an interrupted call is taken up again
    for video in LIBRARY:
        if not (folder / video.name).exists():
            _write_video(video, folder / video.name)
    return truth


def _holds(path: Path, text: str) -> bool:
    return is_file(path) and path.read_bytes() == text.encode()


def intervals(video: DemoVideo) -> Iterator[Interval]:
    """What a video shows when."""
    start = 0.0
    for shot in video.shots:
        yield Interval(video.name, start, start + shot.seconds, shot.caption)
        start += shot.seconds


def _write_video(video: DemoVideo, path: Path) -> None:
    """H.264, to a temporary name first, so that an interrupted call leaves no half a video to be believed later."""
    with replacing(path) as temporary, av.open(str(temporary), "w", format=_MUXERS[path.suffix]) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        for picture, ticks in _frames(video):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = ticks, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _frames(video: DemoVideo) -> Iterator[tuple[np.ndarray, int]]:
    """Pictures (H, W, 3) uint8 and their times in ticks."""
    start = 0.0
    for shot in video.shots:
        still = render(shot.scene, SIZE)
        for at in _times(shot.seconds, variable=video.variable_rate):
            yield (render(_drifted(shot.scene, at), SIZE) if shot.moving else still), round((start + at) * _TICKS)
        start += shot.seconds


def _times(seconds: float, *, variable: bool) -> Iterator[float]:
    """Times of frames within a shot; a variable rate swings between 48 and 12 frames a second."""
    at = 0.0
    while at < seconds - 1e-6:
        yield at
        at += (1 / 48 + (1 / 12 - 1 / 48) * (0.5 - 0.5 * np.cos(at * 2.5))) if variable else 1 / FPS


def _drifted(scene: Scene, at: float) -> Scene:
    """The scene `at` seconds into its shot: everything circles gently, together, and turns a little."""
    x, y = 0.08 * np.cos(1.7 * at), 0.06 * np.sin(1.3 * at)
    things = tuple(replace(t, x=t.x + float(x), y=t.y + float(y), turn=t.turn + 6.0 * at) for t in scene.things)
    return replace(scene, things=things)
