"""Every command that writes, on a disk without room: one sentence, nothing half, nothing of before lost.

The disk is a tmpfs in a mount namespace of its own, which needs no rights where the kernel allows user namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from demo_library import DemoLibrary
from extract_runs import assert_sound, features_of

pytestmark = [pytest.mark.fault, pytest.mark.once]

CLIPCACHE = f"{sys.executable} -c 'from clipcache.cli import main; main()'"
IN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]

COMMANDS = {
    "score": "score --cache DISK/features --text 'a purple triangle' --format csv",
    "search": "search red --cache DISK/features --video-root VIDEOS --thumbnails DISK/thumbnails",
    "export npz": "export --cache DISK/features --format npz --output DISK/npz",
    "export csv": "export --cache DISK/features --format csv --output DISK/out.csv",
    "export h5": "export --cache DISK/features --format h5 --output DISK/out.h5",
    "pack": "cache pack --cache DISK/features DISK/packed.h5",
    "merge": "cache merge DISK/features --into DISK/merged",
    "plot": "score --cache DISK/features --text red --plot DISK/plot.png",
}
"""What is written beyond an entry, by a cache on the same disk."""


def on_small_disk(script: str, disk: Path, **values: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script with a tmpfs of 1 MB at DISK; skips where that is not allowed."""
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    disk.mkdir()
    head = "mount -t tmpfs -o size=1m tmpfs DISK || exit 99\n"
    script = (head + script).replace("CLIPCACHE", CLIPCACHE).replace("DISK", str(disk))
    for name, value in values.items():
        script = script.replace(name, str(value))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*IN_NAMESPACE, "sh", "-c", script], capture_output=True, text=True, env=env, check=False)
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no mount namespace is allowed here")
    return done


def test_extract_on_a_full_disk_stops_and_goes_on(
    demo_library: DemoLibrary, tmp_path: Path, tried: Counter[str]
) -> None:
    done = on_small_disk(
        """
CLIPCACHE extract VIDEOS --cache DISK/features --model demo --device cpu --num-workers 0; echo "first $?"
find DISK -name '*tmp*'; ls DISK/features/failed.jsonl 2>/dev/null
mount -o remount,size=50m DISK
CLIPCACHE extract VIDEOS --cache DISK/features --model demo --device cpu --num-workers 0; echo "second $?"
cp -r DISK/features KEPT
""",
        tmp_path / "disk",
        VIDEOS=demo_library.folder,
        KEPT=tmp_path / "kept",
    )
    assert "first 1\n" in done.stdout, done
    assert "second 0\n" in done.stdout, done
    assert [line for line in done.stdout.splitlines() if "tmp-" in line or line.endswith(".jsonl")] == []
    assert done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr
    found, expected = features_of(tmp_path / "kept"), features_of(demo_library.cache_dir)
    assert found.keys() == expected.keys()
    assert_sound(tmp_path / "kept")
    tried["commands on a full disk"] += 1


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_leaves_a_half_file_on_a_full_disk(
    name: str, demo_library: DemoLibrary, tmp_path: Path, tried: Counter[str]
) -> None:
    done = on_small_disk(
        """
mount -o remount,size=50m DISK
cp -r CACHE DISK/features
find DISK -type f | sort | xargs sha256sum > BEFORE
head -c 60m /dev/zero > DISK/filler 2>/dev/null
CLIPCACHE COMMAND > OUT; echo "code $?"
rm DISK/filler
find DISK -type f | sort | xargs sha256sum > AFTER
""",
        tmp_path / "disk",
        COMMAND=COMMANDS[name].replace("DISK", str(tmp_path / "disk")),
        VIDEOS=demo_library.folder,
        CACHE=demo_library.cache_dir,
        BEFORE=tmp_path / "before",
        AFTER=tmp_path / "after",
        OUT=tmp_path / "out",
    )
    if name == "score":  # the answer needs no disk; only the embedding of the prompt is not remembered
        assert "code 0\n" in done.stdout, done
    else:
        assert "code 1\n" in done.stdout, done
        assert "No space left on device" in done.stderr, done
    assert "Traceback" not in done.stderr
    assert "please report" not in done.stderr
    before, after = (set((tmp_path / which).read_text().splitlines()) for which in ("before", "after"))
    assert before <= after, "something of before is gone"
    assert [line for line in after - before if not line.endswith(("manifest.jsonl", ".tar"))] == []
    tried["commands on a full disk"] += 1
