"""The checks of `clipcache doctor`: ten things that have to work before a library is extracted."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from ...cache.common.errors import ClipcacheError
from ...cache.common.hashing import DigestMemo
from ...cache.common.quoting import first_line, quoted
from ...cache.common.render import table_lines
from ..models.listing import locate
from ..models.placement import place
from ..models.plugins import entry_points
from ..models.registry import find_weights
from ..models.weights import OPENAI_MODELS
from ..provenance import decoder_version
from ..video.resize import CLIP_RULE
from ..workers.process import WorkerProcess
from .codec_check import CODECS, decodes, make_video

_LEAST_FREE_GB = 1.0
_EXTRAS = {
    "audio": "soxr",
    "open-clip": "open_clip_torch",
    "parquet": "pyarrow",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        about: what was checked, in a word.
        found: what was found.
        remedy: what to do about it; empty where nothing has to be done.
    """

    about: str
    found: str
    remedy: str = ""


def examine(model: str, weights: Path | None, cache_dir: Path, device: str) -> list[Finding]:
    """Make all checks; one that raises is a finding like any other.

    Args:
        model: name of the model that will be used.
        weights: its file, if one was named.
        cache_dir: the cache that will be written to; it need not exist.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    looks: dict[str, Callable[[], Finding]] = {
        "clipcache": _look_at_program,
        "torch": _look_at_torch,
        "device": partial(_look_at_device, device),
        "decord": _look_at_decord,
        "PyAV": _look_at_pyav,
        "codecs": _look_at_codecs,
        "workers": _look_at_workers,
        "weights": partial(_look_at_weights, model, weights),
        "cache": partial(_look_at_cache, cache_dir),
        "extras": _look_at_extras,
    }
    return [_without_failing(about, look) for about, look in looks.items()]


def as_text(findings: list[Finding]) -> str:
    """One line for each; the last words of a line that is not ok say what to do."""
    lines = (("NOT OK", f.about, f"{f.found}; {f.remedy}") if f.remedy else ("ok", f.about, f.found) for f in findings)
    return "".join(table_lines(lines)).rstrip("\n")


def as_json(findings: list[Finding]) -> str:
    """A list of objects: about, found, remedy (empty where all is well), ok."""
    return json.dumps([asdict(finding) | {"ok": not finding.remedy} for finding in findings], indent=2, allow_nan=False)


def _without_failing(about: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except ClipcacheError as error:
        return Finding(about, error.problem, error.remedy or "see docs/models.md")
    except Exception as error:  # noqa: BLE001  a broken package may raise anything; that is what is looked for
        return Finding(about, first_line(error), "pip install --force-reinstall clipcache")


def _look_at_program() -> Finding:
    system = f"{platform.system()} {platform.machine()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    version = metadata.version("clipcache")
    return Finding("clipcache", f"{version}, Python {platform.python_version()}, {system}, {cores} cores to use")


def _look_at_torch() -> Finding:
    """Torch and torchvision must come from one build: OpenAI's package imports both."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = importlib.import_module("torchvision").__version__
            importlib.import_module("clip")
    except Exception as error:  # noqa: BLE001  a torchvision of another build fails in its own ways
        remedy = "install both anew from one index: pip install --force-reinstall torch torchvision"
        return Finding("torch", f"{torch.__version__} ({build}), without torchvision ({first_line(error)})", remedy)
    return Finding("torch", f"{torch.__version__} ({build}), torchvision {version}")


def _look_at_device(device: str) -> Finding:
    """Compute something in every precision that is offered."""
    import torch

    chosen = place(device)
    on_cuda = chosen.device.startswith("cuda")
    name = torch.cuda.get_device_name(chosen.device) if on_cuda else torch.backends.cpu.get_cpu_capability()
    works = []
    for precision in ("fp32", "bf16", "fp16") if on_cuda else ("fp32", "bf16"):
        ones = torch.ones(64, 64, device=chosen.device, dtype=place(device, precision).dtype)
        if float((ones @ ones)[0, 0]) == 64:
            works.append(precision)
    found = f"{chosen.device} ({name}), computes in {', '.join(works)}, auto takes {chosen.precision}"
    remedy = "" if chosen.precision in works else "choose another --device, or --precision fp32"
    return Finding("device", found, remedy)


def _look_at_decord() -> Finding:
    try:
        importlib.import_module("decord")
    except Exception as error:  # noqa: BLE001  a missing library of the system is an OSError
        return Finding("decord", f"cannot be imported ({first_line(error)})", "pip install decord2")
    return Finding("decord", decoder_version("decord"))


def _look_at_pyav() -> Finding:
    import av

    codecs = ".".join(map(str, av.library_versions["libavcodec"]))
    return Finding(
        "PyAV", f"av {av.__version__}, FFmpeg {getattr(av, 'ffmpeg_version_info', '')} (libavcodec {codecs})"
    )


def _look_at_codecs() -> Finding:
    """Make a tiny video of each codec, and decode it as extraction does."""
    decoded, untried, broken = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            path = Path(folder, f"{codec.name}.bin")
            if not make_video(path, codec):
                untried.append(codec.name)
            elif decodes(path):
                decoded.append(codec.name)
            else:
                broken.append(codec.name)
    found = f"decoded {', '.join(decoded) or 'none'}"
    found += f"; not tried, for lack of an encoder: {', '.join(untried)}" if untried else ""
    if not broken:
        return Finding("codecs", found)
    return Finding("codecs", f"{found}; failed {', '.join(broken)}", "pip install --force-reinstall av decord2")


def _look_at_workers() -> Finding:
    """Start a decoding process and wait for its first message."""
    worker = WorkerProcess(224, "torch", CLIP_RULE, quiet=True)
    try:
        started = worker.connection.poll(60) and worker.receive() is not None
    finally:
        worker.close(kill=True)
    if started:
        return Finding("workers", "a decoding process starts, with shared memory for its pictures")
    return Finding("workers", "decoding processes do not start", "decode without them: --num-workers 0")


def _look_at_weights(model: str, weights: Path | None) -> Finding:
    row = None if weights else locate(model)
    if row is None:
        found = find_weights(model, weights, DigestMemo())
        return Finding("weights", f"{found.model}: {quoted(found.path)}, sha256 {found.sha256[:16]}…")
    if not row.present:
        remedy = f"the first run downloads them from {row.weights}; without a network name a file with --weights"
        return Finding("weights", f"those of {row.name} are not here", remedy)
    if row.name in OPENAI_MODELS and row.weights.endswith(".pt"):
        published = find_weights(model, Path(row.weights), DigestMemo()).published
        if not published:
            return Finding(
                "weights", f"{quoted(row.weights)} is damaged", "move it away; the next run downloads another"
            )
    return Finding("weights", f"{row.name}: {row.weights}")


def _look_at_cache(cache_dir: Path) -> Finding:
    """Write an HDF5 file where the cache is, or would be made, and move it as entries are moved."""
    import h5py

    folder = next(path for path in (cache_dir.absolute(), *cache_dir.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".clipcache-", dir=folder) as temporary:
            with h5py.File(Path(temporary, "a.h5"), "w") as file:
                file.create_dataset("features", data=np.ones((4, 4), np.float16), chunks=(4, 4), fletcher32=True)
            Path(temporary, "a.h5").replace(Path(temporary, "b.h5"))
        free_gb = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        reason = error.strerror or first_line(error)
        return Finding("cache", f"{quoted(cache_dir)} cannot be written ({reason})", "choose another with --cache")
    remedy = "" if free_gb >= _LEAST_FREE_GB else "free space, or choose another with --cache"
    return Finding("cache", f"{quoted(cache_dir)} can be written, {free_gb:.1f} GB free", remedy)


def _look_at_extras() -> Finding:
    """Say which extras are installed; a missing one is not a problem."""
    there, missing = [], []
    for extra, package in _EXTRAS.items():
        try:
            there.append(f"{extra} ({package} {metadata.version(package)})")
        except metadata.PackageNotFoundError:
            missing.append(extra)
    there += [f"encoder {point.name}" for point in entry_points()]
    found = f"installed: {', '.join(there) or 'none'}"
    return Finding("extras", found + (f"; to add: pip install 'clipcache[{','.join(missing)}]'" if missing else ""))
