"""What is searched for: sums of prompts and images, read and added up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.score.references import ReferenceResolver
from clipcache.score.search.query import Query, Term, parse_query, query_of_words, query_vectors
from score_caches import FakeEncoder


@pytest.fixture
def resolver() -> ReferenceResolver:
    return ReferenceResolver(None, FakeEncoder, lambda path: path.name)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a dog", [("a dog", 1)]),
        ("  rock + roll - live ", [("rock + roll - live", 1)]),
        ("2*3 is six", [("2*3 is six", 1)]),
        ('a sign that says "stop"', [('a sign that says "stop"', 1)]),
        ('"a dog"', [("a dog", 1)]),
        ('"a dog" + "snow" - "people"', [("a dog", 1), ("snow", 1), ("people", -1)]),
        ('"a dog"+"snow"-"people"', [("a dog", 1), ("snow", 1), ("people", -1)]),
        ('0.5*"x" - 2 * "y" + .25*"z"', [("x", 0.5), ("y", -2), ("z", 0.25)]),
        ('-"people" + "a street"', [("people", -1), ("a street", 1)]),
        (r'"a \"stop\" sign" + "back\\slash"', [('a "stop" sign', 1), ("back\\slash", 1)]),
        ('"犬" + "a + b"', [("犬", 1), ("a + b", 1)]),
    ],
)
def test_a_query_is_read(text: str, terms: list[tuple[str, float]]) -> None:
    assert parse_query(text).terms == tuple(Term(prompt, weight) for prompt, weight in terms)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ('"a dog" "snow"', 9),
        ('"a dog" + snow', 9),
        ('"a dog" +', 9),
        ('"Hello" said the man', 9),
        ('"a dog" * 2', 9),
    ],
)
def test_what_starts_as_a_sum_and_is_none_says_where(text: str, position: int) -> None:
    with pytest.raises(UsageError, match=f"from its character {position} on; write a sum as") as error:
        parse_query(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_query_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="The query is empty"):
        parse_query(text)


@pytest.mark.parametrize(
    ("words", "expression"),
    [
        (["a dog"], "a dog"),
        (['"a dog" - "snow"'], '"a dog" - "snow"'),
        (["a dog", "+", "snow", "-", "people"], '"a dog" + "snow" - "people"'),
        (["0.5*a dog", "-", "2*people"], '0.5*"a dog" - 2*"people"'),
        (['say "hi"', "+", "snow"], r'"say \"hi\"" + "snow"'),
        (['"a dog"', "+", '2*"snow"'], '"a dog" + 2*"snow"'),
    ],
)
def test_the_shell_may_take_the_quotes_away(words: list[str], expression: str) -> None:
    assert query_of_words(words) == parse_query(expression)


@pytest.mark.parametrize("words", [["a", "dog"], ["a", "dog", "runs"], ["a dog", "+"], []])
def test_words_without_quotes_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="put a prompt of several words in quotes"):
        query_of_words(words)


def test_a_query_is_the_normalised_sum_of_normalised_features(resolver: ReferenceResolver, tmp_path: Path) -> None:
    image = tmp_path / "q.jpg"
    image.write_text("z axis")
    queries = [
        parse_query("x axis"),
        parse_query('"x axis" + 0.5*"y axis"'),  # their features are 5 and 7 long: that must not matter
        parse_query('2*"x axis" - "y axis"').with_images([image]),
        Query("").with_images([image]),
    ]
    expected = np.array([[1, 0, 0, 0], [1, 0.5, 0, 0], [2, -1, 1, 0], [0, 0, 1, 0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(query_vectors(queries, resolver, truncate=False), expected, atol=1e-6)


def test_images_are_named_with_the_query() -> None:
    images = [Path("here/q.jpg"), Path("r.png")]
    assert parse_query("a dog").with_images(images).name == "a dog + [q.jpg] + [r.png]"
    assert Query("").with_images(images).name == "[q.jpg] + [r.png]"


@pytest.mark.parametrize("text", ['"x axis" - "x axis"', '0*"x axis"'])
def test_parts_that_cancel_out_are_refused(resolver: ReferenceResolver, text: str) -> None:
    with pytest.raises(UsageError, match="cancel each other out"):
        query_vectors([parse_query(text)], resolver, truncate=False)


def test_an_empty_prompt_within_a_sum_is_refused(resolver: ReferenceResolver) -> None:
    with pytest.raises(UsageError, match="is empty"):
        query_vectors([parse_query('"x axis" + " "')], resolver, truncate=False)
