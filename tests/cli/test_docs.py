"""Documentation that cannot drift: docs/cli.md is what --help says.

`UPDATE_DOCS=1 pytest tests/cli/test_docs.py` renews it.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator

import click
import pytest
from checkout import CHECKOUT
from clipcache.cli import cli

ROOT = CHECKOUT

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs lie in the checkout")


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from commands(below, (*path, name))


def reference() -> str:
    parts = ["# Commands\n\nWritten by `UPDATE_DOCS=1 pytest tests/cli/test_docs.py` from the program's own help.\n"]
    for path, command in commands(cli, ("clipcache",)):
        vars(command)["_help_option"] = None  # click keeps what the first call of any test made of it
        context = command.context_class(
            command, info_name=" ".join(path), terminal_width=100, help_option_names=["-h", "--help"]
        )
        parts.append(f"\n## {' '.join(path)}\n\n```\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def test_the_command_reference_is_current() -> None:
    path = ROOT / "docs" / "cli.md"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(reference(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == reference()


def test_every_command_is_shown_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path, command in commands(cli, ("clipcache",)):
        if not isinstance(command, click.Group):
            assert " ".join(path) in readme, f"the README does not mention {' '.join(path)}"


PAGES = [
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"),
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_options_named_in_the_readme_exist() -> None:
    known = {option for _, command in commands(cli, ()) for part in command.params for option in part.opts}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert shown <= known | {"--help"}


def test_attributes_described_are_those_of_the_schema() -> None:
    from clipcache.cache import EntryAttributes

    described = set(re.findall(r"`([a-z_]+[a-z0-9_]*)`", (ROOT / "docs" / "cache.md").read_text(encoding="utf-8")))
    assert set(EntryAttributes.__dataclass_fields__) <= described


def test_what_proves_a_class_of_decoding_is_a_row_or_a_test() -> None:
    from odd_media import ODD

    tests = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    known = {case.name for case in ODD} | set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    page = (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")
    classes = page.partition("## What was wrong, what holds now")[2].partition("\n## ")[0]
    rows = [line for line in classes.splitlines() if line.startswith("|")]
    proofs = {proof for row in rows for proof in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])}
    assert len(proofs) > 30
    assert not {proof for proof in proofs if not fnmatch.filter(known, proof)}
    assert not {case.name for case in ODD if not any(fnmatch.fnmatch(case.name, proof) for proof in proofs)}


def test_every_timeline_is_described() -> None:
    from clipcache.extract.video.timeline import CONTAINER, FROM_RATE, JOINED, PARTED

    for name in ("cache.md", "decoding.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert all(f"`{kind}`" in page for kind in (CONTAINER, FROM_RATE, JOINED, PARTED)), name
