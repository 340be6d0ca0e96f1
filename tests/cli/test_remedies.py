"""No advice that the program prints can destroy anything: its commands exist, and what they replace is not the user's.

All text of the package is read, so that a new piece of advice is looked at too: a command that is not in `EFFECTS`, or
words about removing that are not in `REMOVING`, fail here.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import command_lines
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from clipcache import cache, cli
from clipcache.cache.common import errors
from clipcache.cli import cli as program
from PIL import Image
from score_caches import X, make_video, put

pytestmark = pytest.mark.fault

PACKAGE = Path(cli.__file__).parent
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

READS, ADDS, REPLACES = "reads", "writes new files", "replaces or removes files that clipcache made"
EFFECTS = {
    "align": READS,
    "cache failures": READS,
    "cache ls": READS,
    "cache pack": REPLACES,  # a packed library of the same name
    "cache unpack": REPLACES,  # entries of fewer frames
    "extract": REPLACES,  # entries of fewer frames; all with --overwrite
    "models": READS,
}
"""What the commands do that messages name."""

REMOVING = {
    "remove it, and it is computed again": "an embedding that clipcache remembered, by the name of its file",
    "fill it in or remove the row": "a row of a table that the user writes",
    "rename or remove one": "a name in a file that the user writes",
    "--delete-bad removes entries of a folder, and X is one file": "says that nothing was removed",
    "X is a packed library, from which nothing is removed": "says that nothing was removed",
    "Cannot remove X (X)": "says that nothing was removed",
    "X cached item(s) X; --overwrite makes them again.": "entries, which are made again",
    "until it is extracted with --overwrite": "an entry, which is made again",
    "A file on a network disk was removed or replaced meanwhile": "says what another did",
    "removed X": "says what --delete-bad removed",
    "removed": "says what --delete removed",
    "would be removed by --delete": "says what --delete is for",
    "nothing to remove": "says that nothing was removed",
}
"""Words about removing, and why they cannot cost the user a file of her own."""


def texts(path: Path) -> Iterator[str]:
    """All strings of a module but the docstrings, with X for what a format string computes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def all_texts() -> set[str]:
    modules = [path for name in ("cache", "extract", "score", "demo") for path in (PACKAGE / name).rglob("*.py")]
    return {text for path in [PACKAGE / "cli.py", *modules] if "training" not in path.parts for text in texts(path)}


TEXTS = all_texts()
COMMAND = re.compile(rf"\bclipcache ((?:{'|'.join(program.commands)}) ?[^`;]*)")
COMMANDS = sorted({found for text in TEXTS for found in COMMAND.findall(text)})


def remedies() -> set[str]:
    """The second arguments of errors, where they are written out."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if "tests" in path.parts or "training" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and name in ERRORS and len(node.args) > 1:
                found.add(ast.unparse(node.args[1]))
    return found


def test_the_advice_of_the_program_is_found() -> None:
    assert len(remedies()) > 150
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_a_message_exists_with_its_options(line: str) -> None:
    context = command_lines.parse(shlex.split(line))
    group = "cache " if line.startswith("cache ") else ""
    assert f"{group}{context.info_name}" in EFFECTS


def test_every_effect_is_of_a_command_that_is_named() -> None:
    assert {name for name in EFFECTS if not any(line.startswith(name) for line in COMMANDS)} == set()


def test_options_in_remedies_exist() -> None:
    known = {"--help"}
    groups: list[click.Command] = [program]
    while groups:
        command = groups.pop()
        known |= {option for parameter in command.params for option in parameter.opts}
        groups += command.commands.values() if isinstance(command, click.Group) else []
    named = {option for remedy in remedies() for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", remedy)}
    assert named <= known


def test_no_message_tells_to_remove_a_file_that_may_be_the_users() -> None:
    words = re.compile(r"\b(?:remov|delet|eras|overwrit|prune\b.*--delete)\w*")
    found = {text.strip() for text in TEXTS if words.search(text) and (" " in text.strip() or text == "removed")}
    found -= {text.strip() for text in help_texts()}
    assert found - set(REMOVING) == set()
    assert set(REMOVING) - found == set()  # none is out of date


def help_texts() -> Iterator[str]:
    """The help of all options, which says what they do when the user asks for it."""
    groups: list[click.Command] = [program]
    while groups:
        command = groups.pop()
        yield from (getattr(parameter, "help", None) or "" for parameter in command.params)
        groups += command.commands.values() if isinstance(command, click.Group) else []


# Files of the user.


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((3, 4), np.float32)


def truncated_hdf5(path: Path) -> None:
    foreign_hdf5(path)
    path.write_bytes(path.read_bytes()[:700])


def versioned_hdf5(path: Path) -> None:
    """Another program's file, which happens to count its versions under the same name."""
    foreign_hdf5(path)
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 1


FILES: dict[str, Callable[[Path], None]] = {
    "foreign": foreign_hdf5,
    "truncated": truncated_hdf5,
    "versioned": versioned_hdf5,
    "empty": lambda path: path.write_bytes(b"") and None,
    "text": lambda path: path.write_text("my notes") and None,
}
ASKING = [
    ["score", "--text", "a dog", "--cache", "mine.h5"],
    ["score", "mine.h5", "--text", "a dog"],
    ["search", "a dog", "--in", "mine.h5"],
    ["consistency", "mine.h5"],
    ["aesthetic", "--cache", "mine.h5"],
    ["export", "mine.h5", "--format", "npz", "--output", "out"],
    ["import", "mine.h5", "--model", "ViT-B/32", "--cache", "new"],
    ["import", "a.npy", "--model", "ViT-B/32", "--cache", "mine.h5"],
    ["extract", "a.jpg", "--model", "demo", "--cache", "mine.h5"],
    ["cache", "ls", "--cache", "mine.h5"],
    ["cache", "info", "mine.h5"],
    ["cache", "verify", "--cache", "mine.h5", "--delete-bad"],
    ["cache", "verify", "--delete-bad"],
    ["cache", "pack", "mine.h5"],
    ["cache", "unpack", "mine.h5", "--into", "new"],
    ["cache", "merge", "mine.h5", "--into", "new"],
    ["cache", "prune", "--videos", ".", "--delete", "--cache", "mine.h5"],
]


def result_of(words: list[str]) -> str:
    """What a command prints, its error included."""
    result = CliRunner().invoke(program, words)
    return result.output + str(result.exception or "")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one entry in a folder of the user's, and files of hers at every place of it."""
    monkeypatch.chdir(tmp_path)
    entry = put(Path("features"), make_video(Path(), "video.mp4"), np.array([X, X]), embed_dim=4)
    references = entry.parent.parent / "references" / "ab"
    references.mkdir(parents=True)
    for folder in (Path(), Path("features"), entry.parent.parent, entry.parent, references):
        foreign_hdf5(folder / "her_data.h5")
        (folder / "notes.txt").write_text("mine")
        np.save(folder / "her_vectors.npy", X)
    return tmp_path


def snapshot(folder: Path, entry: str) -> dict[str, bytes]:
    """All files of the user in a folder: those that do not bear the name of its entry, or of a log of ours."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): path.read_bytes() for path in files if entry not in path.name}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_no_file_of_the_user_is_to_be_removed(home: Path, words: list[str], kind: str) -> None:
    FILES[kind](home / "mine.h5")
    Image.new("RGB", (8, 8)).save("a.jpg")
    np.save("a.npy", np.ones((2, 512), np.float32))
    before = snapshot(home, "-")
    said = result_of(words)
    assert "Unexpected" not in said
    assert not re.search(r"(?<!-)\b(?:remove|delete|erase)\b", said), said
    after = snapshot(home, "-")
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize(
    "words",
    [
        ["extract", "a.jpg", "--model", "demo"],
        ["extract", "a.jpg", "--model", "demo", "--overwrite"],
        ["cache", "pack", "library.h5"],
        ["cache", "unpack", "packed.h5", "--into", "features"],
        ["cache", "merge", "packed.h5", "--into", "features"],
        ["cache", "verify", "--delete-bad"],
        ["cache", "prune", "--videos", ".", "--delete"],
    ],
    ids=" ".join,
)
def test_what_replaces_or_removes_leaves_files_of_the_user(home: Path, words: list[str]) -> None:
    """Run in a folder that holds files of hers at every place where the cache has its own."""
    Image.new("RGB", (8, 8)).save("a.jpg")
    assert CliRunner().invoke(program, ["cache", "pack", "packed.h5", "--model", "ViT-B/32"]).exit_code == 0
    before = snapshot(home, "-")
    assert len(before) > 15
    model = [] if "demo" in words or words[1] in ("unpack", "merge") else ["--model", "ViT-B/32"]
    result = CliRunner().invoke(program, [*words, *model])
    assert result.exit_code == (1 if words[1] == "verify" else 0), result.output
    after = snapshot(home, "-")
    assert {name: after.get(name) for name in before} == before


def test_a_bad_entry_is_removed_and_a_stranger_beside_it_stays(home: Path) -> None:
    (entry,) = cache.FeatureCache("features")
    entry.path.write_bytes(b"damaged")
    vector = entry.path.parent.parent / "references" / "ab" / f"text-{'0' * 64}.npy"
    vector.write_bytes(b"damaged")
    said = result_of(["cache", "verify", "--delete-bad"])
    assert not entry.path.exists()
    assert not vector.exists()
    assert said.count("clipcache: removed ") == 2
    assert len(list(Path("features").rglob("her_*"))) == 8


def test_packing_onto_a_file_of_the_user_is_refused(home: Path) -> None:
    before = Path("her_data.h5").read_bytes()
    assert "is not a packed library" in result_of(["cache", "pack", "her_data.h5"])
    assert Path("her_data.h5").read_bytes() == before
