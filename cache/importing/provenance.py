"""What our own exports say of their features: which video and model they are of, and what was done to the rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.errors import ContentError, UsageError
from ..common.hashing import is_sha256
from ..common.quoting import one_line, quoted
from ..format.names import canonical_model
from ..format.sampling import Sampling
from ..format.schema import ATTRIBUTE_TYPES, IMPORTED_PREFIX, SCHEMA_VERSION, SOURCE_KINDS, TIMED_KINDS, EntryAttributes
from .formats import Found

_HASHES = ("video_sha256", "weights_sha256")


@dataclass(frozen=True)
class Provenance:
    """Where the rows of an export come from.

    Attributes:
        attributes: of the entry that was exported; `sampling` may be that of the frames chosen.
        rows_per_second: of the export; 0.0 for images.
        recipe: what was done to the frames, where it was not the default: the options of `clipcache export`.
    """

    attributes: EntryAttributes
    rows_per_second: float
    recipe: Mapping[str, Any]

    @property
    def is_cut(self) -> bool:
        """Whether the rows are those of a part of the video."""
        return "start" in self.recipe or "end" in self.recipe

    @property
    def sampling(self) -> Sampling | None:
        """The frames that the rows are, of the part that was exported; None if no sampling describes them."""
        interval_s = self.recipe.get("interval_s") if self.attributes.source_kind == "video" else None
        if interval_s is None:
            fps = self.recipe.get("fps") if self.attributes.source_kind in TIMED_KINDS else None
            asked = Sampling(fps, self.recipe.get("every"))
            return Sampling.parse(self.attributes.sampling) if asked.is_all else asked
        rate = round(1 / interval_s, 3)
        return Sampling(fps=rate) if rate > 0 and math.isclose(rate * interval_s, 1, abs_tol=1e-12) else None

    @property
    def decoder(self) -> str:
        """What decoded the frames, also if they were imported once before; "" if it is not known."""
        decoder = self.attributes.decoder
        if decoder.startswith(IMPORTED_PREFIX):
            return decoder.removeprefix(IMPORTED_PREFIX).partition(":")[2]
        return decoder


def provenance_of(found: Found) -> Provenance | None:
    """What the file says of the features, checked; None if it does not say it as our exports do.

    Raises:
        ContentError: if it does, but what it says makes no sense.
    """
    said = found.metadata
    if said is None or not {"schema_version", *_HASHES} <= said.keys():
        return None
    try:
        attributes = _attributes(said)
        recipe = said.get("recipe") or {}
        rate = float(said.get("rows_per_second", attributes.fps))
        if not (0 < recipe.get("interval_s", 1) < math.inf and 0 <= rate < math.inf):
            raise ValueError("a rate or an interval is not a positive number")
        known = Provenance(attributes, rate, recipe)
        known.sampling  # noqa: B018 - raises for what is no sampling
    except (ValueError, TypeError, AttributeError, ArithmeticError, UsageError) as error:
        raise ContentError(
            f"{quoted(found.path)} says of {found.name!r} what no export says ({one_line(error)})", "export it again"
        ) from error
    return known


def check_claims(
    found: Found, known: Provenance, model: str | None, weights_sha256: str | None, logit_scale: float | None
) -> None:
    """Compare what the user says of the model with what the file says; None is not said.

    Raises:
        ContentError: naming what differs.
    """
    said = known.attributes
    claims: tuple[tuple[str, object, object], ...] = (
        ("--model", model and canonical_model(model), said.model),
        ("--weights-sha256", weights_sha256, said.weights_sha256),
        ("--logit-scale", logit_scale, said.logit_scale),
    )
    for option, claimed, held in claims:
        if claimed is not None and claimed != held:
            raise ContentError(
                f"{quoted(found.path)} was exported from features of {one_line(said.model)} (weights "
                f"{said.weights_sha256[:8]}, logit scale {said.logit_scale:g}), and {option} says {claimed}",
                f"leave out {option}",
            )


def check_rows(found: Found, known: Provenance, count: int, dim: int) -> None:
    """Refuse rows that are not frames, and more of them than the export had.

    Raises:
        ContentError: if the rows are means of several frames, or do not fit what is said of them.
    """
    pool = known.recipe.get("pool", 1)
    if pool != 1:
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} means of {one_line(pool)} frames; an entry holds frames",
            "export them without --pool",
        )
    if count > known.attributes.frames_decoded or dim != known.attributes.embed_dim:
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} {count} rows of {dim} values, and says that they come from "
            f"{known.attributes.frames_decoded} of {known.attributes.embed_dim}",
            "export it again",
        )


def _attributes(said: Mapping[str, Any]) -> EntryAttributes:
    """The attributes of an entry from JSON; those of later versions have their defaults where they are missing.

    Raises:
        ValueError: if one is missing, of another type, or makes no sense.
    """
    needed = {field.name for field in dataclasses.fields(EntryAttributes) if field.default is dataclasses.MISSING}
    if missing := sorted(needed - said.keys()):
        raise ValueError(f"it lacks {', '.join(missing)}")
    held = {name: _value(name, said[name], kind) for name, kind in ATTRIBUTE_TYPES.items() if name in said}
    attributes = EntryAttributes(**held)
    if not 1 <= attributes.schema_version <= SCHEMA_VERSION:
        raise ValueError(f"schema version {attributes.schema_version} is not known; upgrade clipcache")
    if not all(is_sha256(getattr(attributes, name)) for name in _HASHES):
        raise ValueError("a sha256 is not 64 lower-case hex digits")
    if attributes.source_kind not in SOURCE_KINDS or not attributes.logit_scale > 0:
        raise ValueError("source_kind or logit_scale cannot be")
    return attributes


def _value(name: str, value: Any, kind: Any) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is not {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name} is not finite")
    return kind(value)
