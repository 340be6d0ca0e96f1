"""Whether vectors and heads from files belong to the cache's model, as far as the files say what they were made with.

Widths agree between models whose spaces have nothing in common (512 for ViT-B/32, ViT-B/16 and the demo's), so a width
proves nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..cache import DigestMemo, EntryAttributes
from ..cache.common.errors import UsageError
from ..cache.common.quoting import one_line, quoted
from ..cache.format.names import canonical_model
from ..cache.manifests import Manifests
from ..cache.numpy_files import read_npz
from .read_files import StrPath

_MOST_BYTES = 10_000  # of a name in an .npz
_ARCHITECTURE = re.compile(
    r"(?<![a-z0-9])(?:vit[-_]?(?P<vit>bigg|base|large|huge|giant|[a-z])[-_/]?(?:patch)?(?P<patch>\d\d)(?:[-_@]*(?P<pixels>336))?"
    r"|(?P<laion>l14)"  # LAION's predictors of 2022: sac+logos+ava1-l14-linearMSE
    r"|(?P<resnet>rn(?:50x(?:4|16|64)|50|101))"
    r"|(?P<demo>^demo$))(?![a-z0-9])"
)


@dataclass(frozen=True)
class Origin:
    """What a file says of its model; empty where it does not.

    Attributes:
        model: its name.
        weights_sha256: of its weights, 64 hex digits.
        architecture: of the model, as the file's name has it: "vit-l-14".
    """

    model: str = ""
    weights_sha256: str = ""
    architecture: str = ""


def architecture_in(name: str) -> str:
    """The architecture that a name of a model or file contains, as "vit-b-32", "rn50x4" or "demo"; empty for none."""
    found = _ARCHITECTURE.search(name.lower().replace("px", ""))
    if found is None:
        return ""
    if found["vit"]:
        size = "bigg" if found["vit"] == "bigg" else found["vit"][0]
        return "-".join(filter(None, ("vit", size, found["patch"], found["pixels"])))
    return "vit-l-14" if found["laion"] else found[0]


def check_origin(what: str, origin: Origin, made_with: EntryAttributes) -> str | None:
    """Refuse what was made for another model than cached features.

    Args:
        what: the file, as the subject of a sentence: "The head 'a.pth'".
        origin: what it says.
        made_with: of the cached features.

    Returns:
        A warning where the file does not say enough; None where it belongs to the model.

    Raises:
        UsageError: if it says another model.
    """
    said = origin.model or origin.architecture
    if origin.weights_sha256:
        if origin.weights_sha256 == made_with.weights_sha256:
            return None
        raise _other(what, f"weights {origin.weights_sha256[:8]} of {one_line(said or 'some model')}", made_with)
    if origin.model:
        if canonical_model(origin.model) == canonical_model(made_with.model):
            return None
        raise _other(what, one_line(origin.model), made_with)
    own = architecture_in(canonical_model(made_with.model))
    if said and own and said != own:
        raise _other(what, said, made_with)
    if said and own and _is_openais(made_with.model):
        return None
    reason = f"names only the architecture {said}" if said else "does not say which model it was made with"
    return f"{what} {reason}; the cache's, {one_line(made_with.model)}, is assumed."


def _is_openais(model: str) -> bool:
    """Whether a name is that of one of OpenAI's models, and not of other weights of the same architecture."""
    return re.fullmatch(r"(ViT-[BL]/\d\d|RN\d+)(@336px|x\d+)?", canonical_model(model)) is not None


def _other(what: str, said: str, made_with: EntryAttributes) -> UsageError:
    own = f"{one_line(made_with.model)} (weights {made_with.weights_sha256[:8]})"
    return UsageError(
        f"{what} was made with {said} and the cached features with {own}: a score between them means nothing",
        "choose the cache's model by --model, or make it with the cache's",
    )


def check_embeddings(paths: Iterable[StrPath], made_with: EntryAttributes, warn: Callable[[str], None]) -> None:
    """Refuse files of embeddings of another model; one warning names those that do not say theirs.

    Raises:
        UsageError: if a file says another model.
    """
    files = list(map(Path, paths))
    manifests = Manifests(DigestMemo())
    origins = {path: _origin_of(path, manifests) for path in files}
    unsaid = [path for path, origin in origins.items() if check_origin(f"The file {quoted(path)}", origin, made_with)]
    if unsaid:
        names = ", ".join(map(quoted, unsaid))
        warn(f"No model is named in {names}; the cache's, {one_line(made_with.model)}, is assumed.")


def _origin_of(path: Path, manifests: Manifests) -> Origin:
    """What an .npz says in its arrays `model` and `weights_sha256`, else what the manifest of an export says."""
    said = {}
    with contextlib.suppress(OSError, ValueError):
        arrays = read_npz(path, ("model", "weights_sha256"))
        said = {name: _text(array) for name, array in arrays.items()}
    if not any(said.values()):
        made = manifests.metadata(path) or {}
        said = {name: value for name in ("model", "weights_sha256") if isinstance(value := made.get(name), str)}
    return Origin(**said)


def _text(array: npt.NDArray[Any]) -> str:
    """The one text that an array holds; empty for none."""
    if array.size != 1 or array.nbytes > _MOST_BYTES:
        return ""
    value = array.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
