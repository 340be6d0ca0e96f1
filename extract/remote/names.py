"""Names of inputs that are not files of this disk: what they ask for, and what a pattern stands for."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ...cache.common.media_types import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from ...cache.common.urls import is_url, without_credentials

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<words>[^{},]*(?:,[^{},]*)+))\}")
_MOST_NAMES = 1_000_000
# Parts of a query that say who asks and until when, not what is asked for: they are others each time.
_SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id|.*token.*|.*secret.*|.*password.*"
    r"|.*credential.*|.*api-?_?key.*|auth|authorization|key|sig|se|sp|sv|sr|st|spr|sip|skoid|sktid|skt|ske|sks|skv",
    re.IGNORECASE,
)


def is_web(url: str) -> bool:
    """Whether a URL is asked for by HTTP."""
    return url.lower().startswith(("https://", "http://"))


def is_tar(name: str) -> bool:
    """Whether a name is that of a tar, compressed or not; of a URL the query does not count."""
    return (without_credentials(name) if is_url(name) else name).lower().endswith(TAR_SUFFIXES)


def identity(url: str) -> str:
    """What a URL asks for, whoever asks: of a query that is not a signature there is a checksum."""
    parts = urlsplit(url)
    said = [(name, value) for name, value in parse_qsl(parts.query, True) if not _SIGNATURE.fullmatch(name)]
    if not said:
        return without_credentials(url)
    return f"{without_credentials(url)}?{hashlib.sha256(urlencode(sorted(said)).encode()).hexdigest()[:32]}"


def escaped(name: str) -> str:
    """A name as it stands in what is shown: what follows "?" or "#" would count as a query, and be left out."""
    return name.replace("?", "%3F").replace("#", "%23")


def without_user_alone(url: str) -> str:
    """The URL of an object without user and password; "?" and "#" in it are parts of its name, or of a pattern."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def without_user(url: str) -> tuple[str, str]:
    """The URL to ask for, and the "user:password" in it or ""."""
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, place, parts.path, parts.query, "")), user


def expand_braces(name: str) -> list[str]:
    """The names that "{000..009}" and "{a,b}" in one stand for, in order; the name itself without them.

    Only of URLs and tars, and not of one that exists as it is.

    Raises:
        ValueError: if there are more than a million.
    """
    if not _BRACES.search(name) or not (is_url(name) or is_tar(name)) or os.path.lexists(name):
        return [name]
    choices, end = [], 0
    for found in _BRACES.finditer(name):
        choices += [[name[end : found.start()]], _choices(found)]
        end = found.end()
    count = 1
    for words in choices:
        count *= len(words)
    if count > _MOST_NAMES:
        raise ValueError(name)
    return ["".join(words) + name[end:] for words in itertools.product(*choices)]


def _choices(found: re.Match[str]) -> list[str]:
    if found["words"] is not None:
        return found["words"].split(",")
    first, last = int(found["first"]), int(found["last"])
    if abs(last - first) >= _MOST_NAMES:
        raise ValueError(found.string)
    numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    digits = max(len(found["first"]), len(found["last"])) if found["first"].startswith("0") else 0
    return [f"{number:0{digits}d}" for number in numbers]


def kind_of(name: str, *, sounds: bool) -> str:
    """What a name is of: "video", "audio" if `sounds`, or ""; by its suffix, as nothing is opened to find out."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return ""
    if suffix in AUDIO_SUFFIXES:
        return "audio" if sounds else ""
    return "video" if suffix in VIDEO_SUFFIXES else ""
