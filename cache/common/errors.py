"""Every exception that clipcache raises on purpose.

    ClipcacheError
    ├── UsageError            the request itself is wrong: missing path, bad option, nothing to do (exit code 2)
    ├── MediaError            a video, image or sound cannot be decoded
    │   ├── NoAudioError      a file has no audio track: reported, but not a failure
    │   ├── NoLibraryError    a package that reads files of this format is not installed
    │   └── NotReadNowError   a file could not be read just now: it is not there, or the disk or the permissions failed
    ├── ModelError            weights missing, damaged, or of another model
    │   └── PromptError       a prompt that the model cannot take (exit code 2)
    └── CacheError            something about the feature cache
        ├── NotCachedError    the video asked for has no entry
        ├── ContentError      what was to be stored is not valid
        └── EntryError        an entry cannot be read: truncated, foreign, hostile
            └── UncheckedEntryError  this program cannot tell whether it is good: a passing error, a newer schema

Each says what is wrong and with which file, and, where something can be done, the remedy; as text both make one
sentence: `what, which file; remedy.` After a command there is no full stop, so that it can be copied. The library
raises; `cli.main` alone turns these into a line on stderr and an exit code.
"""

from __future__ import annotations

import re

_COMMAND = re.compile(": (clipcache|pip) ")
"""Begins a command at the end of a remedy; no full stop follows it, so that it can be copied."""


class ClipcacheError(Exception):
    """Base of all errors that clipcache raises on purpose; its text is one sentence.

    Args:
        problem: what is wrong, and with which file; without a full stop.
        remedy: what to do about it, as words that follow a semicolon; empty if there is nothing to suggest.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        if not self.remedy:
            return f"{self.problem}."
        stop = "" if _COMMAND.search(self.remedy) else "."
        return f"{self.problem}; {self.remedy}{stop}"


class UsageError(ClipcacheError):
    """The request itself is wrong: a missing path, an option out of range, nothing to work on."""

    exit_code = 2


class MediaError(ClipcacheError):
    """A video or image cannot be decoded, in whole or from the start."""


class NoAudioError(MediaError):
    """A file has no audio track; it is not damaged."""


class NoLibraryError(MediaError):
    """A file of this format is read by a package that is not installed: nothing is wrong with the file."""


class NotReadNowError(MediaError):
    """A file could not be read just now: nothing is known of its content. It is not there, or the disk failed."""


class ModelError(ClipcacheError):
    """Weights are missing, damaged or of another model, or a prompt does not fit the model."""


class PromptError(ModelError):
    """A prompt does not fit the model: it is the request that is wrong."""

    exit_code = 2


class CacheError(ClipcacheError):
    """The feature cache cannot do what was asked."""


class NotCachedError(CacheError):
    """The video asked for has no entry in the cache."""


class ContentError(CacheError):
    """What was to be stored is not valid; the disk is not at fault."""


class EntryError(CacheError):
    """An entry cannot be read: truncated, foreign, of a newer schema, or hostile."""


class UncheckedEntryError(EntryError):
    """An entry cannot be read now, or not by this program: it may be good, and nothing may remove or replace it."""
