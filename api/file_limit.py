"""How many files, sockets among them, the process may have open. What it starts with often is what shells need."""

import logging
from typing import Final

__all__ = ["allow_files"]

logger = logging.getLogger("threadhold")

_MACOS: Final = 10_240  # what macOS takes at the most, although it says that there is no limit


def allow_files(wanted: int) -> int | None:
    """Let the process open as many files, as far as it may, and say it; return how many it may open then.

    None is no limit, or none that is known.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    for files in (most, min(most, _MACOS)):
        if files <= soft:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        except (ValueError, OSError):
            continue
        logger.info("open files: %d are allowed, raised from %d", files, soft)
        return files
    return soft
