"""What the sections share: sizes, weights, videos, children, and a place for what is thrown away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from . import extraction, make_weights, videos
from .child import ROOT, Child
from .report import usable_cores


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The defaults are those of a full run, about an hour on two cores.

    Attributes:
        rounds: Turns of each pair of sides.
        seconds: Of one measurement of the encoder or of matrix products.
        cpu_batches: Pictures per batch on a CPU.
        gpu_batches: The same on a GPU.
        resolutions: Kinds of video for the ceilings and for whole runs.
        run_seconds: A whole run is made to last about so long.
        baseline_rounds: Turns of the scripts that people run.
        baseline_kinds: Kinds of video for them.
        single_frames: Frames for the script that encodes one at a time.
        batched_frames: Frames for those that encode batches of 128.
        cached_videos: Videos to score again, of 1,000 frames each.
        skipped_videos: Cached files that a run has nothing to do for.
        real_minutes: Lengths of 1080p that memory is measured on, with the model of real size.
        tiny_minutes: The same with the tiny model.
        memory_clips: Numbers of short clips that memory is measured on.
        growth_clips: Numbers of short clips.
        growth_loops: Length of the long video, in clips, for the model of real size.
        growth_tiny_loops: The same for the tiny model.
        growth_rounds: Turns of each of these.
        coded_frames: Frames of the videos that the proof of cuts is measured on.
        coded: Their codecs, keys of `videos.CODINGS`.
        proof_rounds: Turns with and without the proof.
        sampled_frames: Frames of the video that sampling is measured on.
        sampled_rounds: Turns of its two ways.
        shared_videos: Videos that one run and two runs go through.
        claimed_clips: Clips that are claimed.
        unhashed_files: Files of which no checksum is known at the start.
        ray_clips: Short clips that a run through Ray is measured on.
        ray_rounds: Turns with and without Ray.
    """

    rounds: int = 3
    seconds: float = 3.0
    cpu_batches: tuple[int, ...] = (1, 16, 32, 128)
    gpu_batches: tuple[int, ...] = (64, 256, 512, 1024)
    resolutions: tuple[str, ...] = ("240p", "720p", "1080p")
    run_seconds: float = 25.0
    baseline_rounds: int = 3
    baseline_kinds: tuple[str, ...] = ("240p", "720p", "1080p", "720p, half of the frames repeated")
    single_frames: int = 100
    batched_frames: int = 256
    cached_videos: int = 1000
    skipped_videos: int = 10_000
    real_minutes: tuple[float, ...] = (1.0, 2.0)
    tiny_minutes: tuple[float, ...] = (1.0, 10.0, 60.0)
    memory_clips: tuple[int, ...] = (10, 100, 300)
    growth_clips: tuple[int, ...] = (10, 100, 1000)
    growth_loops: int = 24
    growth_tiny_loops: int = 200
    growth_rounds: int = 2
    coded_frames: int = 300
    coded: tuple[str, ...] = ("H.264", "HEVC", "VP9", "AV1")
    proof_rounds: int = 20
    sampled_frames: int = 600
    sampled_rounds: int = 6
    shared_videos: int = 40
    claimed_clips: int = 1000
    unhashed_files: int = 10_000
    ray_clips: int = 40
    ray_rounds: int = 2


QUICK = Sizes(
    rounds=2,
    seconds=1.5,
    cpu_batches=(16,),
    gpu_batches=(512,),
    resolutions=("240p", "720p"),
    run_seconds=6.0,
    baseline_rounds=1,
    baseline_kinds=("720p", "720p, half of the frames repeated"),
    single_frames=32,
    batched_frames=128,
    cached_videos=100,
    skipped_videos=1000,
    real_minutes=(),
    tiny_minutes=(0.5, 1.0),
    memory_clips=(5, 25),
    growth_clips=(10, 30),
    growth_loops=6,
    growth_tiny_loops=30,
    growth_rounds=1,
    coded_frames=250,
    coded=("H.264",),
    proof_rounds=3,
    sampled_frames=120,
    sampled_rounds=2,
    shared_videos=6,
    claimed_clips=100,
    unhashed_files=300,
    ray_clips=10,
    ray_rounds=1,
)


@dataclass
class Context:
    """One run of the benchmark; close it.

    Attributes:
        sizes: How much is measured.
        data: Folder where videos and weights are kept.
        scratch: Folder for caches and the like; whoever made it removes it.
        model: The model that is measured, a key of `make_weights.SIZES`.
        rates: Frames/s that one section measured and another uses, by kind of video.
    """

    sizes: Sizes
    data: Path
    scratch: Path
    model: str = "ViT-B/32"
    rates: dict[str, float] = field(default_factory=dict)
    _children: dict[str, Child] = field(default_factory=dict)
    _folders: int = 0

    @cached_property
    def cores(self) -> int:
        """Cores that this process may run on."""
        return usable_cores()

    @property
    def environment(self) -> dict[str, str]:
        """Of children and programs: no settings of the user's, and digests remembered apart."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLIPCACHE_")}
        return kept | {"CLIPCACHE_MEMO": str(self.scratch / "digests.sqlite3")}

    @cached_property
    def placement(self) -> Mapping[str, Any]:
        """Device, precision and batch size that clipcache chooses here."""
        chosen: Mapping[str, Any] = self.child("encoder").call(extraction.placement)
        return chosen

    @property
    def on_gpu(self) -> bool:
        """Whether the encoder has a device of its own."""
        return str(self.placement["device"]).startswith("cuda")

    def weights(self, model: str | None = None) -> Path:
        """Random weights of a model's size."""
        model = model or self.model
        path = self.data / f"random-{model.replace('/', '-')}.safetensors"
        if not path.exists():
            part = path.with_name(f".{os.getpid()}-{path.name}")
            program = [sys.executable, str(Path(make_weights.__file__)), str(part), "--model", model]
            subprocess.run(program, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            part.replace(path)
        return path

    def video(self, kind: str, frames: int) -> Path:
        """A video of a kind with at least so many frames."""
        return videos.make_video(self.data, kind, max(1, -(-frames // videos.KINDS[kind].frames)))

    def folder(self) -> Path:
        """A folder of its own that nobody keeps."""
        self._folders += 1
        path = self.scratch / f"{self._folders:03d}"
        path.mkdir()
        return path

    def child(self, name: str) -> Child:
        """The child of that name, started when first asked for."""
        if name not in self._children:
            self._children[name] = Child(self.environment)
        return self._children[name]

    def drop(self, *names: str) -> None:
        """End children that are not needed again, all of them by default."""
        for name in names or tuple(self._children):
            if name in self._children:
                self._children.pop(name).close()

    def program(self, *words: str | Path) -> list[str]:
        """The command line of clipcache as a user would run it."""
        script = Path(sys.executable).parent / "clipcache"
        start = [str(script)] if script.exists() else [sys.executable, "-c", "from clipcache.cli import main; main()"]
        return [*start, *map(str, words)]

    def run(self, *words: str | Path) -> str:
        """Run clipcache to its end; what it printed.

        Raises:
            RuntimeError: It failed.
        """
        command = self.program(*words)
        done = subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    def extract_words(self, inputs: Sequence[Path], cache: Path, model: str, *more: str) -> list[str]:
        """Arguments of `clipcache extract` with random weights."""
        chosen = ["--model", model, "--weights", str(self.weights(model)), "--cache", str(cache)]
        return ["extract", *map(str, inputs), *chosen, *more]
