"""The shell scripts of docs/cluster.md, run by bash; sbatch and srun are stand-ins that set SLURM's variables.

`clipcache extract` is noted by the scripts and run afterwards in this process, so that torch is loaded once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import CHECKOUT
from click.testing import CliRunner
from clipcache.cache import FeatureCache
from clipcache.cli import cli
from video_files import make_video

if not (CHECKOUT / "docs").is_dir():
    pytest.skip("the docs lie in the checkout", allow_module_level=True)

pytestmark = pytest.mark.once

SHARDS = 4
VIDEOS = 6
SCALED = {
    "0-63": f"0-{SHARDS - 1}",
    "/64": f"/{SHARDS}",
    "--shards 64": f"--shards {SHARDS}",
    "--nodes=8": "--nodes=1",
    "--ntasks-per-node=4": "--ntasks-per-node=3",
}
LONG_AGO = 1_000_000_000

CLIPCACHE = """#!{python}
import json, os, sys
if sys.argv[1] != "extract":
    from clipcache.cli import main
    main()
slurm = {{name: value for name, value in os.environ.items() if name.startswith("SLURM_")}}
with open({notes!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], slurm]) + "\\n")
"""
SBATCH = """#!{python}
import os, re, subprocess, sys
*options, script = sys.argv[1:]
text = open(script).read()
said = " ".join([*re.findall("^#SBATCH (.*)", text, re.M), *options])  # what is said last counts
tasks = []
if arrays := re.findall("--array=([0-9,-]+)", said):
    for part in arrays[-1].split(","):
        first, _, last = part.partition("-")
        tasks += range(int(first), int(last or first) + 1)
count = int((re.findall("--nodes=([0-9]+)", said) or [1])[-1])
count *= int((re.findall("--ntasks-per-node=([0-9]+)", said) or [1])[-1])
batch = {{"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": str(count)}}
array = {{"MIN": min(tasks), "MAX": max(tasks), "COUNT": len(tasks), "STEP": 1}} if tasks else {{}}
for task in tasks or [None]:
    numbers = {{f"SLURM_ARRAY_TASK_{{name}}": str(value) for name, value in array.items()}}
    if task is not None:
        numbers["SLURM_ARRAY_TASK_ID"] = str(task)
    subprocess.run(["bash", "-eu", script], env={{**os.environ, **batch, **numbers}}, check=True)
"""
SRUN = """#!{python}
import os, subprocess, sys
count = os.environ["SLURM_NTASKS"]
for number in range(int(count)):
    step = {{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": count, "SLURM_PROCID": str(number)}}
    subprocess.run(sys.argv[1:], env={{**os.environ, **step}}, check=True)
"""


class Cluster:
    """A folder with videos, in which scripts are run as on a cluster."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._notes = folder / "notes"
        self._monkeypatch = monkeypatch
        for name, text in (("clipcache", CLIPCACHE), ("sbatch", SBATCH), ("srun", SRUN)):
            path = folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.format(python=sys.executable, notes=str(self._notes)))
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def run(self, script: str) -> list[Any]:
        """Run a script; the words and variables of each `clipcache extract` that it started."""
        self._notes.write_text("")
        subprocess.run(["bash", "-eu", "-c", script], check=True)
        return [json.loads(line) for line in self._notes.read_text().splitlines()]

    def extract(self, noted: tuple[list[str], dict[str, str]]) -> str:
        """Do what a script would have done, and give what it would have printed on stderr."""
        words, variables = noted
        with self._monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(cli, [*words, "--num-workers", "0"], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return result.stderr


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCACHE_MODEL", "demo")
    monkeypatch.setenv("CLIPCACHE_DEVICE", "cpu")
    Path("videos").mkdir()
    for number in range(VIDEOS):
        path = Path("videos", f"{number}.mp4")
        make_video(path, frames=3 + number, size=(64, 48))
        os.utime(path, (LONG_AGO, LONG_AGO))
    return Cluster(tmp_path, monkeypatch)


def scripts(section: str) -> list[str]:
    """The blocks of shell of a section of the page, for fewer shards and nodes."""
    page = (CHECKOUT / "docs" / "cluster.md").read_text(encoding="utf-8")
    text = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    for shown, small in SCALED.items():
        text = text.replace(shown, small)
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def entries() -> int:
    return len(FeatureCache("features"))


def test_an_array_is_sent_again_until_all_is_done(cluster: Cluster) -> None:
    script, again, _ = scripts("An array of jobs")
    Path("extract.sh").write_text(script)
    started = cluster.run("sbatch extract.sh")
    assert [words[-1] for words, _ in started] == [f"{number}/{SHARDS}" for number in range(SHARDS)]
    said = [cluster.extract(one) for one in started[:-1]]
    lost = started[-1]
    done = entries()
    assert 0 < done < VIDEOS
    assert sum(int(re.search(r"(\d+) of 6 items", one)[1]) for one in said) == done  # type: ignore[index]
    [rest] = cluster.run(again)
    assert rest[0] == lost[0]
    cluster.extract(rest)
    assert entries() == VIDEOS
    assert cluster.run(again) == []


def test_the_processes_of_a_step_divide_the_library(cluster: Cluster) -> None:
    *_, script = scripts("An array of jobs")
    Path("step.sh").write_text(script)
    said = [cluster.extract(one) for one in cluster.run("sbatch step.sh")]
    assert [re.search(r"shard (\S+):", one)[1] for one in said] == ["0/3", "1/3", "2/3"]  # type: ignore[index]
    assert entries() == VIDEOS
    [alone] = cluster.run("sed -i 's/^srun //' step.sh; sbatch step.sh")
    with pytest.raises(Exception, match="finds neither an array"):
        cluster.extract(alone)


def test_the_status_is_printed_as_shown(cluster: Cluster) -> None:
    Path("features").mkdir()
    [block] = scripts("Looking at a shared cache")
    assert block.count("clipcache cache status") == 3
    assert cluster.run(block) == []
