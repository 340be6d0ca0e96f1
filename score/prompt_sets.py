"""Prompt files: one prompt a line, or YAML sets of names and templates, averaged as CLIP's zero-shot classifier does.

The two forms of YAML:

    templates: ["a photo of a {}.", "a drawing of a {}."]       a dog: ["a dog", "a puppy on grass"]
    names: [dog, cat]                                           a cat: ["a cat", "a kitten"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cache.common.errors import UsageError
from ..cache.common.quoting import quoted
from .read_files import StrPath, read_yaml
from .references import Reference, ReferenceResolver, read_prompts
from .similarity import unit_rows

YAML_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class PromptGroup:
    """The prompts of one name, whose normalised vectors are averaged; a plain prompt is its own name."""

    name: str
    prompts: tuple[str, ...]  # one or more

    @classmethod
    def plain(cls, prompt: str) -> PromptGroup:
        """A group of one prompt, named by it."""
        return cls(prompt, (prompt,))


def read_prompt_file(path: StrPath) -> list[PromptGroup]:
    """The prompts of a file: a set if its name ends in .yaml or .yml, else one prompt a line.

    Raises:
        UsageError: the file cannot be read, or does not hold prompts.
    """
    if Path(path).suffix.lower() in YAML_SUFFIXES:
        return read_prompt_set(path)
    return [PromptGroup.plain(prompt) for prompt in read_prompts(path)]


def read_prompt_set(path: StrPath) -> list[PromptGroup]:
    """A YAML set: `names` with `templates` that hold {}, or a mapping of names to lists of prompts.

    Raises:
        UsageError: the file cannot be read, is malformed, or a template has no {}.
    """
    found = read_yaml(path)
    if not isinstance(found, dict) or not found:
        raise UsageError(f"{quoted(path)} holds no prompt set", "write `names` and `templates`, or names with prompts")
    if set(found) == {"names", "templates"}:
        names, templates = _texts(found["names"], "names", path), _texts(found["templates"], "templates", path)
        if bare := [template for template in templates if "{}" not in template]:
            raise UsageError(f"{quoted(path)}: the template {bare[0]!r} has no {{}} where the name belongs")
        return [PromptGroup(name, tuple(t.replace("{}", name) for t in templates)) for name in names]
    if strange := [name for name in found if not isinstance(name, str)]:  # YAML reads a bare `yes` as true
        raise UsageError(f"{quoted(path)}: the name {strange[0]!r} is not text", "put it in quotes")
    return [PromptGroup(name, tuple(_texts(prompts, name, path))) for name, prompts in found.items()]


def resolve_groups(
    groups: Sequence[PromptGroup], resolver: ReferenceResolver, *, truncate: bool = False, prefix: str = ""
) -> list[Reference]:
    """One reference per name, each once; the vector of several prompts is the mean of their normalised vectors.

    (Radford et al. 2021, section 3.1.4; openai/CLIP, Prompt_Engineering_for_ImageNet.)

    Args:
        groups: prompts by name.
        resolver: of the model.
        truncate: cut prompts that are longer than the model reads.
        prefix: put before each prompt, not before its name.

    Raises:
        UsageError: a prompt is empty.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
    """
    wanted = list(dict.fromkeys(groups))
    prompts = [prefix + prompt if prompt.strip() else prompt for group in wanted for prompt in group.prompts]
    vectors = {one.name: one.vector for one in resolver.texts(prompts, truncate)}
    references = []
    for group in wanted:
        rows = np.stack([vectors[prefix + prompt] for prompt in group.prompts])
        vector = rows[0] if len(rows) == 1 else unit_rows(rows).mean(axis=0)
        references.append(Reference("text", group.name, vector))
    return references


def _texts(value: object, what: str, path: StrPath) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UsageError(f"{quoted(path)}: {what!r} must be a list of texts, none of them empty")
    return texts
