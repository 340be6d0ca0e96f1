r"""Queries: a prompt, a weighted sum of several, or images; each is one direction in CLIP's space.

a dog on a beach                       one prompt, as it stands
"a dog" + "snow" - "people"            a sum of three, each in double quotes
"a dog" + 0.5*"snow"                   the same, with weights; a quote within quotes is written \"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache.common.errors import UsageError
from ...cache.common.quoting import printable
from ..read_files import StrPath
from ..references import ReferenceResolver
from ..similarity import unit_rows

_WEIGHT = r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?"
_TERM = re.compile(rf'\s*(?P<sign>[+-]?)\s*{_WEIGHT}"(?P<prompt>(?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_BARE_TERM = re.compile(rf"\s*{_WEIGHT}(?P<prompt>.*)", re.DOTALL)


@dataclass(frozen=True)
class Term:
    """One prompt of a sum."""

    prompt: str
    weight: float = 1.0  # negative: unlike the prompt


@dataclass(frozen=True)
class Query:
    """A weighted sum of prompts and images; an image weighs 1."""

    name: str  # as it was given, printable
    terms: tuple[Term, ...] = ()
    images: tuple[Path, ...] = ()

    def with_images(self, images: Sequence[StrPath]) -> Query:
        """Return the query with images added to the sum."""
        paths = [Path(image) for image in images]
        parts = [*([self.name] if self.name else []), *(f"[{printable(path.name)}]" for path in paths)]
        return replace(self, name=" + ".join(parts), images=(*self.images, *paths))


def parse_query(text: str) -> Query:
    """Read a query; without a quoted prompt at its start it is one prompt as it stands.

    Raises:
        UsageError: it is empty, or starts as a sum and is not one.
    """
    text = text.strip()
    if not text:
        raise UsageError("The query is empty", "describe in a few words what to find")
    if _TERM.match(text) is None:
        return Query(text, (Term(text),))
    terms: list[Term] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None or (terms and not match["sign"]):
            raise UsageError(
                f"Cannot read the query {text!r} from its character {position + 1} on",
                (
                    "write a sum as "
                    '"a dog" + 0.5*"snow" - "people", and a prompt that starts with a quote as "\\"Hello\\" on a sign"'
                ),
            )
        weight = float(match["weight"] or 1)
        terms.append(Term(re.sub(r"\\(.)", r"\1", match["prompt"]), -weight if match["sign"] == "-" else weight))
        position = match.end()
    return Query(text, tuple(terms))


def query_of_words(words: Sequence[str]) -> Query:
    """Read a query from the words of a command line: several words are a sum whose quotes the shell has removed.

    Raises:
        UsageError: several words are not prompts with a + or - between each two, or `parse_query` raises it.
    """
    if len(words) == 1:
        return parse_query(words[0])
    if not len(words) % 2 or not set(words[1::2]) <= {"+", "-"}:
        raise UsageError(
            f"Cannot read the query {' '.join(words)!r}",
            ("put a prompt of several words in quotes, or give several queries by --queries FILE"),
        )
    return parse_query(" ".join(word if n % 2 else _quoted_term(word) for n, word in enumerate(words)))


def query_vectors(queries: Sequence[Query], resolver: ReferenceResolver, *, truncate: bool) -> NDArray[np.float32]:
    """Return one direction per query: the sum of weight times L2-normalised feature of its parts, normalised.

    Args:
        queries: at least one.
        resolver: gives the features of prompts and images.
        truncate: cut prompts that are longer than the model takes, instead of refusing them.

    Returns:
        (Q, D) float32, rows of length one: the cosine with a frame is the score of the frame.

    Raises:
        UsageError: a prompt is empty, an image is missing, or the parts of a query cancel each other out.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
        MediaError: an image cannot be decoded.
    """
    prompts = list(dict.fromkeys(term.prompt for query in queries for term in query.terms))
    images = list(dict.fromkeys(path for query in queries for path in query.images))
    references = [*resolver.texts(prompts, truncate), *resolver.images(images)]
    rows = unit_rows(np.stack([reference.vector for reference in references]))
    units: dict[str | Path, NDArray[np.float32]] = dict(zip([*prompts, *images], rows, strict=True))
    return unit_rows(np.stack([_sum(query, units) for query in queries]))


def _sum(query: Query, units: dict[str | Path, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Add up the parts of one query."""
    parts = [*((term.weight, units[term.prompt]) for term in query.terms), *((1.0, units[p]) for p in query.images)]
    total = np.sum([weight * unit.astype(np.float64) for weight, unit in parts], axis=0)
    if np.linalg.norm(total) < 1e-6:
        raise UsageError(f"The parts of the query {query.name!r} cancel each other out: weigh them differently")
    vector: NDArray[np.float64] = total
    return vector


def _quoted_term(word: str) -> str:
    """Put the quotes that the shell removed around a prompt; its weight stays before them."""
    match = _BARE_TERM.fullmatch(word)
    assert match is not None  # noqa: S101 - it matches everything
    weight, prompt = match["weight"], match["prompt"]
    if not (len(prompt) > 1 and prompt[0] == prompt[-1] == '"'):
        prompt = '"' + prompt.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{weight}*{prompt}" if weight else prompt
