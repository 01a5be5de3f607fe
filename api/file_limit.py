"""Raises the limit of open files, including sockets. The limit at start is often a default for interactive shells."""

import logging
from typing import Final

__all__ = ["allow_files"]

logger = logging.getLogger("threadhold")

_MACOS: Final = 10_240  # the maximum that macOS accepts, although it reports no limit


def allow_files(wanted: int) -> int | None:
    """Raise the limit of open files to `wanted`, as far as the system allows, and log it; return the new limit.

    None means that there is no limit, or that it is unknown.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    maximum = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    for files in (maximum, min(maximum, _MACOS)):
        if files <= soft:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        except (ValueError, OSError):
            continue
        logger.info("open files: %d are allowed, raised from %d", files, soft)
        return files
    return soft
