"""Is every frame of some videos decoded exactly? `python -m benchmarks.exactness FOLDER...`, for `doctor --videos`."""

from __future__ import annotations

import sys

from clipcache.extract.machine.command import doctor

if __name__ == "__main__":
    doctor([word for path in sys.argv[1:] for word in ("--videos", path)])
