"""The null that scores are calibrated against: generic prompts, of which most have nothing to do with a video."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from ..cache.common.errors import UsageError
from ..cache.common.quoting import quoted
from .prompt_sets import PromptGroup, resolve_groups
from .references import Reference, ReferenceResolver, read_prompts

MIN_PROMPTS = 10
"""A mean and a standard deviation of fewer say too little."""


def read_baseline(path: Path | None) -> list[str]:
    """The generic prompts of a text file, one a line; of the bundled list if `path` is None.

    Raises:
        UsageError: The file cannot be read, or holds fewer than MIN_PROMPTS different prompts.
    """
    if path is None:
        with resources.as_file(resources.files("clipcache.score") / "baseline_prompts.txt") as bundled:
            return read_prompts(bundled)
    prompts = list(dict.fromkeys(read_prompts(path)))
    if len(prompts) < MIN_PROMPTS:
        raise UsageError(f"A baseline needs {MIN_PROMPTS} prompts or more; {quoted(path)} holds {len(prompts)}")
    return prompts


def resolve_baseline(prompts: list[str], resolver: ReferenceResolver, *, prefix: str = "") -> list[Reference]:
    """The null as references, marked as such."""
    groups = [PromptGroup.plain(prompt) for prompt in prompts]
    return [replace(one, is_null=True) for one in resolve_groups(groups, resolver, truncate=True, prefix=prefix)]
