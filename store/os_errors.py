"""Translates errors of the operating system into errors of the store: a full disk, or any other failure."""

import errno
from typing import Final

from wire.errors import StoreFailed, StoreFull

__all__ = ["os_failure"]

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def os_failure(what: str, error: OSError) -> StoreFailed:
    """Return the store's error with the message "`what`: reason"."""
    kind = StoreFull if error.errno in _NO_SPACE else StoreFailed
    return kind(f"{what}: {error.strerror or error}.")
