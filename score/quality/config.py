"""The config file of a benchmark, YAML: which videos, which methods, which ratings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from ...cache.common.errors import UsageError
from ...cache.common.quoting import quoted
from ..compare import FrameSelection
from ..read_files import StrPath, read_rows, read_yaml
from .attributes import BUNDLED
from .choices import AGGREGATIONS, PAIR_PROBABILITY, Activation
from .methods import MEASURES

Kind = Literal["aggregation", "head", "measure", "prompt"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_SELECTION = ("fps", "every", "start", "end")
_KEYS = {"videos", "cache", "model", "output", "methods", "ratings", *_SELECTION}
_NAMES: Mapping[str, set[str]] = {
    "aggregation": {*AGGREGATIONS, PAIR_PROBABILITY},
    "measure": {measure.name for measure in MEASURES},
}
_PARAMETERS: Mapping[Kind, set[str]] = {
    "aggregation": {"name", "attributes"},
    "head": {"name", "activation"},
    "measure": set(),  # has a name of its own
    "prompt": {"name"},
}


@dataclass(frozen=True)
class MethodSpec:
    """One method of a benchmark."""

    name: str  # of its column
    kind: Kind
    value: str  # name of the aggregation or measure; the prompt; path of the head
    attributes: Path = BUNDLED  # of an aggregation: YAML of its prompts
    activation: Activation | None = None  # of a head


@dataclass(frozen=True)
class BenchmarkConfig:
    """A benchmark; relative paths are taken from the folder of the config file."""

    output: Path  # folder of the results
    methods: tuple[MethodSpec, ...]  # one or more, of different names
    videos: tuple[Path, ...] = ()  # targets as in `score`; none: the whole cache
    cache: Path | None = None
    model: str | None = None
    ratings: Path | None = None  # CSV with columns `item` and `rating`
    selection: FrameSelection = FrameSelection()  # noqa: RUF009 - frozen, so one default serves all


def read_config(path: StrPath) -> BenchmarkConfig:
    """Read a config: keys `output` and `methods`, and if wanted `videos`, `cache`, `model`, `ratings`, `fps` etc.

    Raises:
        UsageError: the file cannot be read, is not valid YAML, or holds something else.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not {"output", "methods"} <= set(content):
        raise UsageError(f"The benchmark {quoted(path)} must have the keys 'output' and 'methods'")
    if unknown := sorted(map(str, set(content) - _KEYS)):
        raise UsageError(f"The benchmark {quoted(path)} has the key {unknown[0]!r}: known are {_listed(_KEYS)}")
    if not isinstance(content["methods"], list) or not content["methods"]:
        raise UsageError(f"'methods' in {quoted(path)} must be a list of one method or more")
    methods = tuple(_method(given, path) for given in content["methods"])
    twice = [name for name, times in Counter(method.name for method in methods).items() if times > 1]
    if twice:
        raise UsageError(f"Two methods in {quoted(path)} are called {twice[0]!r}", "give each a 'name' of its own")
    if taken := {"item", "frames"} & {method.name for method in methods}:
        raise UsageError(f"A method in {quoted(path)} is called {taken.pop()!r}, as another column is", "rename it")
    videos = content.get("videos") or []
    model = content.get("model")
    return BenchmarkConfig(
        output=_path(content["output"], path),
        methods=methods,
        videos=tuple(_path(one, path) for one in (videos if isinstance(videos, list) else [videos])),
        cache=_path(content["cache"], path) if content.get("cache") else None,
        model=_text(model, "model", path) if model else None,
        ratings=_path(content["ratings"], path) if content.get("ratings") else None,
        selection=_selection(content, path),
    )


def read_ratings(path: StrPath) -> dict[str, float]:
    """Read the ratings of people, by the name of the item, from a CSV file with the columns `item` and `rating`.

    Raises:
        UsageError: the file is not such a CSV, a rating is not a number, or an item is rated twice.
    """
    ratings: dict[str, float] = {}
    for row in read_rows(path, ("item", "rating")):
        try:
            rating = float(row["rating"])
        except ValueError:
            rating = math.nan
        if not math.isfinite(rating):
            raise UsageError(f"The rating {row['rating']!r} of {row['item']!r} in {quoted(path)} is not a number")
        if row["item"] in ratings:
            raise UsageError(f"{quoted(path)} rates {row['item']!r} twice", "give the mean of its ratings")
        ratings[row["item"]] = rating
    return ratings


def _method(given: object, path: Path) -> MethodSpec:
    kinds = [kind for kind in _KINDS if isinstance(given, Mapping) and kind in given]
    if not isinstance(given, Mapping) or len(kinds) != 1:
        raise UsageError(f"Each method in {quoted(path)} must have one of the keys {', '.join(_KINDS)}")
    kind = kinds[0]
    value = _text(given[kind], kind, path)
    if kind in _NAMES and value not in _NAMES[kind]:
        raise UsageError(f"{quoted(path)} names the {kind} {value!r}: known are {_listed(_NAMES[kind])}")
    if unknown := sorted(map(str, set(given) - {kind} - _PARAMETERS[kind])):
        raise UsageError(f"The method {value!r} in {quoted(path)} does not take {unknown[0]!r}", "leave that out")
    if kind == "head":
        value = str(_path(value, path))
    name = given.get("name", f"head_{Path(value).stem}" if kind == "head" else value)
    return MethodSpec(
        name=_text(name, "name", path),
        kind=kind,
        value=value,
        attributes=_path(given["attributes"], path) if "attributes" in given else BUNDLED,
        activation=_activation(given.get("activation"), path),
    )


def _activation(given: object, path: Path) -> Activation | None:
    if given is None or given in get_args(Activation):
        return cast("Activation | None", given)
    raise UsageError(f"'activation' in {quoted(path)} must be {' or '.join(get_args(Activation))}, not {given!r}")


def _selection(content: Mapping[str, object], path: Path) -> FrameSelection:
    for name in _SELECTION:
        if not isinstance(content.get(name, 0), (int, float)):
            raise UsageError(f"{name!r} in {quoted(path)} must be a number, not {content[name]!r}")
    return FrameSelection(**{name: content[name] for name in _SELECTION if name in content})  # type: ignore[arg-type]  # checked above


def _path(given: object, path: Path) -> Path:
    """Take a path from the folder of the config file."""
    return path.parent / Path(_text(given, "a path", path)).expanduser()


def _text(given: object, what: str, path: Path) -> str:
    if not isinstance(given, str) or not given.strip():
        raise UsageError(f"{quoted(path)} gives {given!r} for {what}, which must be text")
    return given


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
