"""What is shipped: the wheel holds the packages and nothing else, and its program starts at once."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import CHECKOUT

LITTER = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "features")
HEAVY = {
    "torch",
    "torchvision",
    "clip",
    "av",
    "decord",
    "h5py",
    "numpy",
    "PIL",
    "matplotlib",
    "tqdm",
    "safetensors",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel of this checkout, built from a copy so that the checkout stays clean."""
    if not (CHECKOUT / "setup.cfg").is_file():
        pytest.skip("needs the checkout: these tests run from a copy of tests/ alone")
    if importlib.util.find_spec("build") is None:
        pytest.skip("needs `build`: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(CHECKOUT, folder / "source", ignore=LITTER)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.Path(path)


def _package_folders() -> list[Path]:
    """Every folder of the checkout that is a package, found in the tree and not in setup.cfg."""
    folders = {path.parent for path in CHECKOUT.glob("*/**/__init__.py")}
    outside = {"tests", "benchmarks", "docs", "build", "dist"}
    training = CHECKOUT / "demo" / "training"  # how the model was made: the one package that is not shipped
    inside = {folder for folder in folders if not folder.relative_to(CHECKOUT).parts[0].startswith(".")}
    shipped = {folder for folder in inside if folder.relative_to(CHECKOUT).parts[0] not in outside}
    return sorted(shipped - {training})


def _package_data(folders: list[Path]) -> set[str]:
    """What lies beside the code, as the wheel names it; a README is for people who read the code."""
    files = [file for folder in folders for file in folder.iterdir() if file.is_file() and file.name[0] != "."]
    data = [file for file in files if file.suffix not in (".py", ".md") and file.name != "py.typed"]
    return {f"clipcache/{file.relative_to(CHECKOUT).as_posix()}" for file in data}


def test_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.Path) -> None:
    folders = _package_folders()
    assert {"cache", "demo", "extract", "score"} <= {folder.name for folder in folders}
    expected = {"clipcache/cli.py"}
    for folder in folders:
        prefix = Path("clipcache") / folder.relative_to(CHECKOUT)
        expected |= {(prefix / file.name).as_posix() for file in folder.glob("*.py")}
    expected |= {f"clipcache/{folder.name}/py.typed" for folder in folders if folder.parent == CHECKOUT}
    names = set(wheel.root.namelist())
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    found = {name for name in names - metadata if name.endswith((".py", "py.typed"))}
    assert found == expected
    # Data of a package lie beside its code, and nothing is forgotten in `package_data`.
    data = {name for name in names - metadata - found if not name.endswith("/")}
    assert data == _package_data(folders)
    assert {name.split("/")[0] for name in names} == {"clipcache", next(iter(metadata)).split("/")[0]}
    assert not any(name.split("/")[1] in ("tests", "benchmarks", "docs") for name in names - metadata)


def test_wheel_brings_its_model_and_stays_small(wheel: zipfile.Path) -> None:
    assert (wheel / "clipcache" / "demo" / "demo.npz").exists()
    assert Path(str(wheel.root.filename)).stat().st_size < 5_000_000


def test_wheel_metadata(wheel: zipfile.Path) -> None:
    (folder,) = {name.split("/")[0] for name in wheel.root.namelist() if ".dist-info/" in name}
    metadata = (wheel / folder / "METADATA").read_text()
    assert "\nName: clipcache\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert (wheel / folder / "licenses" / "LICENSE").exists()
    assert "clipcache = clipcache.cli:main" in (wheel / folder / "entry_points.txt").read_text()


def test_root_holds_one_module() -> None:
    if not (CHECKOUT / "setup.cfg").is_file():
        pytest.skip("needs the checkout: these tests run from a copy of tests/ alone")
    assert [path.name for path in CHECKOUT.glob("*.py")] == ["cli.py"]
    assert not (CHECKOUT / "tests" / "__init__.py").exists()


def _program() -> str:
    """The console script beside this interpreter: what people run."""
    path = Path(sys.executable).parent / "clipcache"
    if not path.exists():
        pytest.skip(f"clipcache is not installed in {path.parent}")
    return str(path)


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_program_starts_without_heavy_imports(option: str) -> None:
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([_program(), option], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "clipcache.cli" in imported
    assert {name for name in imported if name.split(".")[0] in HEAVY} == set()


def test_help_lists_the_commands() -> None:
    done = subprocess.run([_program(), "--help"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    listed = {line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()}
    assert {"extract", "cache", "score", "compare", "demo"} <= listed


def test_version_is_the_distributions() -> None:
    done = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.strip().split()[-1] == importlib.metadata.version("clipcache")
    assert done.stderr == ""


def test_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run([_program(), "no-such-command"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "no-such-command" in done.stderr
