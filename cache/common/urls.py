"""URLs: which names are some, and what of one may be printed and stored."""

from __future__ import annotations

import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
# "user:password" where a host belongs, without the "@": the password has one of these characters in it as it is.
_BROKEN_USER = re.compile(r"[^/?#@:\[\]]*:(?![0-9]*(?:[/?#]|$))[^/?#@:]*(?:[/?#]|$)")


def is_url(name: str) -> bool:
    """Whether a name is a URL, of any scheme."""
    return _URL.match(name) is not None


def without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment, which may hold credentials.

    Of one whose password should have been escaped ("/", "?" or "#" in it) all before the "@" is left out.
    """
    scheme, separator, rest = url.partition("://")
    if _BROKEN_USER.match(rest):
        rest = rest.partition("@")[2]
    place, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def word_without_credentials(word: str) -> str:
    """A word of a command line, or of a list, as it may be printed; a URL may stand anywhere in it."""
    found = _URL.search(word)
    return word[: found.start()] + without_credentials(word[found.start() :]) if found else word
