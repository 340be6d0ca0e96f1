"""What the system refuses - space, memory, open files - as a sentence with something to do; see `cli.main`."""

from __future__ import annotations

import errno

from .errors import ClipcacheError
from .quoting import quoted

_NO_MEMORY = (
    "There is not enough memory",
    "close other programs, ask for less at once (fewer files, a smaller --num-workers), or raise the limit (ulimit -v)",
)
_MEANINGS = {
    errno.ENOSPC: ("There is no space left on the disk", "free some, or write to another disk"),
    errno.EDQUOT: ("The quota on the disk is used up", "free some space, or write to another disk"),
    errno.EFBIG: ("A file would become larger than is allowed", "raise the limit (ulimit -f unlimited)"),
    errno.EMFILE: ("This program may not open as many files as it needs", "raise the limit (ulimit -n 1024)"),
    errno.ENFILE: ("All programs together have too many files open", "close some of them"),
    errno.ENOMEM: _NO_MEMORY,
    errno.EAGAIN: (
        "No further process or thread can be started",
        "raise the limit (ulimit -u), or use a smaller --num-workers",
    ),
    errno.ESTALE: (
        "A file on a network disk was removed or replaced meanwhile",
        "run the same command again",
    ),
    errno.EIO: ("The disk cannot be read or written", "check it, and run the same command again"),
    errno.EROFS: ("The disk can only be read", "write to another one"),
    errno.EACCES: ("There is no permission", "fix the permissions, or choose another folder"),
    errno.EPERM: ("There is no permission", "fix the permissions, or choose another folder"),
}
# How libraries that have no errno of their own word it: the loader of shared libraries, torch, Python's threads.
_WORDINGS = {
    "too many open files": errno.EMFILE,
    "can't start new thread": errno.EAGAIN,
    "no space left on device": errno.ENOSPC,
    **dict.fromkeys(("cannot allocate memory", "can't allocate memory", "failed to map segment"), errno.ENOMEM),
}
# HDF5's, where it has no memory for data, the size of which was checked before; not those for a file's structure, the
# sizes of which a damaged file may get wrong.
_LACK_OF_MEMORY_IN_HDF5 = (
    "memory allocation failed for raw data chunk",
    "memory allocation failed for type conversion",
    "memory allocation failed for pipeline buffer",
    "unable to allocate fletcher32 checksum destination buffer",
    "unable to allocate chunk",
)
OF_THE_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What says nothing of a file that could not be opened, but of the program that tried."""


def explained(error: BaseException) -> ClipcacheError | None:
    """An error of the system, as one with a remedy; None if it is none of those known here."""
    number = _number(error)
    if number not in _MEANINGS:
        return None
    problem, remedy = _MEANINGS[number]
    name = getattr(error, "filename", None)
    return ClipcacheError(f"{problem}: {quoted(name)}" if isinstance(name, str) else problem, remedy)


def shortage_behind(error: BaseException) -> ClipcacheError | None:
    """What the program ran short of, where that is why a file could not be opened: another folder would not help."""
    cause = error.__cause__
    return explained(cause) if cause is not None and _number(cause) in OF_THE_PROCESS else None


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether HDF5 says that it got no memory for data."""
    text = str(error).lower()
    return any(wording in text for wording in _LACK_OF_MEMORY_IN_HDF5)


def _number(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, (OSError, ImportError, RuntimeError)):
        return None
    text = str(error).lower()
    return next((number for wording, number in _WORDINGS.items() if wording in text), None)
