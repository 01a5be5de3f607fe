"""Decompresses gzip and deflate as they arrive, within limits on output, input and members.

Invariant: memory holds the requested output and one block of input, whatever the stream contains. Data after the end of
the compressed data is ignored.
"""

import zlib
from typing import Final

__all__ = ["Decompressor"]

_SLACK_BYTES: Final = 64 * 1024
"""Maximum input beyond the limit of the output: a stream that needs more contains almost no data."""

_MAX_MEMBERS: Final = 1000
"""Maximum consecutive gzip streams, which log files can contain."""

_GZIP: Final = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


class Decompressor:
    """Decompresses one body; `coding` is gzip, x-gzip or deflate."""

    def __init__(self, coding: str, max_bytes: int) -> None:
        self._is_gzip = coding.endswith("gzip")
        self._left = max_bytes + _SLACK_BYTES
        self._members = 0
        self._head = b""
        self._stream: zlib._Decompress | None = None
        self.ended = False
        """Whether the compressed data is complete."""
        self.exceeded = False
        """Whether more input arrived than the limit allows."""

    def decompress(self, block: bytes, max_bytes: int) -> bytes:
        """Return at most `max_bytes` of what the block adds. Raises zlib.error."""
        self._left -= len(block)
        self.exceeded = self._left < 0
        found = bytearray()
        data = self._head + block
        while data and not self.ended and not self.exceeded and len(found) < max_bytes:
            if self._stream is None:
                if len(data) < len(_GZIP):
                    self._head = data
                    break
                self._head = b""
                if not self._begin(data):
                    break
            assert self._stream is not None, "a stream is started"
            found += self._stream.decompress(data, max_bytes - len(found))
            if not self._stream.eof:
                break
            # Accessed once: each access copies it.
            data, self._stream = self._stream.unused_data, None
            self.ended = not self._is_gzip
        return bytes(found)

    @property
    def whole(self) -> bool:
        """Whether the body can end here."""
        return self.ended or (self._stream is None and self._members > 0)

    def _begin(self, data: bytes) -> bool:
        """Start a stream; False if no further one follows."""
        if self._is_gzip and self._members and not data.startswith(_GZIP):
            self.ended = True  # padding, or other data
            return False
        self._members += 1
        if self._members > _MAX_MEMBERS:
            self.exceeded = True
            return False
        self._stream = zlib.decompressobj(_GZIP_BITS if self._is_gzip else _deflate_bits(data))
        return True


def _deflate_bits(data: bytes) -> int:
    """Return the window bits for `deflate`, which is zlib's format, although some servers send the raw one."""
    is_zlib = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
    return _ZLIB_BITS if is_zlib else _RAW_BITS
