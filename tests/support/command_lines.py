"""Command lines of clipcache in documents and messages: found in a text, and parsed without being run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

import click
from clipcache.cli import cli

_BLOCK = re.compile(r"^```\w*\n(.*?)^```|^((?: {4}.*\n)+)", re.MULTILINE | re.DOTALL)
_JOINED = {"&&", "|", ";"}


def of_page(page: str) -> list[list[str]]:
    """The words after `clipcache` of each command in the code of a page of Markdown, in order."""
    lines = [line for match in _BLOCK.finditer(page) for line in (match[1] or match[2]).splitlines()]
    return [words for line in lines for words in _of_line(line.strip().removeprefix("$ "))]


def _of_line(line: str) -> Iterator[list[str]]:
    """The commands of a line, which a shell may join to others; a comment ends it."""
    if not re.search(r"(?:^|&& )clipcache ", line):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word in _JOINED:
            if command[:1] == ["clipcache"]:
                yield command[1:]
            command = []
        else:
            command.append(word)


def parse(words: Sequence[str]) -> click.Context:
    """Parse the words after `clipcache`; the context holds the command and its values.

    Raises:
        click.ClickException: there is no such command or option, or a value does not fit.
    """
    command: click.Command = cli
    words = list(words)
    while isinstance(command, click.Group):
        name = words.pop(0) if words else ""
        if name not in command.commands:
            raise click.UsageError(f"No such command {name!r}.")
        command = command.commands[name]
    return command.make_context(name, words)
