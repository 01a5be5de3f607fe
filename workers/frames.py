"""Messages between the server and a child: four bytes of length, then JSON. Not pickle, as the child is not trusted."""

import struct
from collections.abc import Callable
from typing import Final

__all__ = ["frame", "read_frame"]

_HEAD: Final = struct.Struct("!I")
_BLOCK: Final = 256 * 1024


def frame(body: bytes) -> bytes:
    """Return a message preceded by its length. Raises ValueError for 4 GB or more."""
    try:
        return _HEAD.pack(len(body)) + body
    except struct.error:
        raise ValueError("a message is too long") from None


def read_frame(receive: Callable[[int], bytes], maximum: int) -> bytes | None:
    """Return the next message, or None at the end of the stream. `receive(size)` returns up to `size` bytes.

    Raises ValueError if a message announces more than `maximum` bytes.
    """
    head = _read(receive, _HEAD.size)
    if head is None:
        return None
    (size,) = _HEAD.unpack(head)
    if size > maximum:
        raise ValueError("a message is too long")
    return _read(receive, size)


def _read(receive: Callable[[int], bytes], size: int) -> bytes | None:
    blocks: list[bytes] = []
    while size:
        block = receive(min(size, _BLOCK))
        if not block:
            return None
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)
