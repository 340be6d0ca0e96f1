"""Attribute prompts: pairs of opposites, and single prompts that count for or against a picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...cache.common.errors import UsageError
from ...cache.common.quoting import printable, quoted
from ..read_files import StrPath, read_yaml

BUNDLED = Path(__file__).with_name("attributes.yaml")
_KEYS = {"pairs", "positive", "negative"}


@dataclass(frozen=True)
class Pair:
    """Two prompts of opposite meaning."""

    name: str  # of the attribute, such as "composition"
    positive: str
    negative: str


@dataclass(frozen=True)
class Attributes:
    """The prompts that pictures are compared with; no prompt is empty, all names of scores differ."""

    pairs: tuple[Pair, ...]  # one or more
    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """(2 * pairs + positives + negatives): positive and negative of each pair, then the single prompts."""
        both = (prompt for pair in self.pairs for prompt in (pair.positive, pair.negative))
        return (*both, *self.positives, *self.negatives)

    @property
    def score_names(self) -> tuple[str, ...]:
        """`contrast_<name>` of each pair, `pos_<prompt>` and `neg_<prompt>`, in lower case and without spaces."""
        return (
            *(f"contrast_{_word(pair.name)}" for pair in self.pairs),
            *(f"pos_{_word(prompt)}" for prompt in self.positives),
            *(f"neg_{_word(prompt)}" for prompt in self.negatives),
        )


def read_attributes(path: StrPath = BUNDLED) -> Attributes:
    """Read a YAML file with `pairs` (name: {positive, negative}) and, if wanted, lists `positive` and `negative`.

    Raises:
        UsageError: the file cannot be read, is not valid YAML, or holds something else.
    """
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not content.get("pairs") or not set(content) <= _KEYS:
        raise UsageError(f"{quoted(path)} must have the key 'pairs' and may have 'positive' and 'negative', no others")
    if not isinstance(content["pairs"], Mapping):
        raise UsageError(f"'pairs' in {quoted(path)} must map the name of each pair to its two prompts")
    pairs = tuple(_pair(str(name), prompts, path) for name, prompts in content["pairs"].items())
    attributes = Attributes(pairs, _prompts(content, "positive", path), _prompts(content, "negative", path))
    twice = [name for name, times in Counter(attributes.score_names).items() if times > 1]
    if twice:
        raise UsageError(f"Two scores of {quoted(path)} would be called {twice[0]!r}", "rename or remove one")
    return attributes


def _pair(name: str, prompts: object, path: StrPath) -> Pair:
    if not isinstance(prompts, Mapping) or set(prompts) != {"positive", "negative"}:
        raise UsageError(f"The pair {name!r} in {quoted(path)} must have one 'positive' and one 'negative' prompt")
    return Pair(name, _prompt(prompts["positive"], path), _prompt(prompts["negative"], path))


def _prompts(content: Mapping[str, object], key: str, path: StrPath) -> tuple[str, ...]:
    given = content.get(key) or []
    if not isinstance(given, list):
        raise UsageError(f"{key!r} in {quoted(path)} must be a list of prompts")
    return tuple(_prompt(prompt, path) for prompt in given)


def _prompt(prompt: object, path: StrPath) -> str:
    if not isinstance(prompt, str) or not prompt.strip() or printable(prompt) != prompt:
        raise UsageError(f"{quoted(path)} holds the prompt {prompt!r}, which is empty or not text", "write it in words")
    return prompt


def _word(text: str) -> str:
    """Return text in lower case with underscores between its words, whatever the script."""
    return "_".join(re.findall(r"\w+", text.lower()))
