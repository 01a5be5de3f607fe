"""Multipart forms for an upstream: stored on disk until they are complete, so that the field `model` can follow files.

Invariants: memory holds one block of a form. The file on disk has no name, so a crash does not leave it behind. Parts
are sent in order with their own headers and bytes, except `model`, which comes first, with the upstream's model name.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.bodies import receive_block
from api.uploads import SLACK, announced_bytes, boundary_of
from chains.forwarding import Outgoing
from store.disk import Disk
from store.free_space import FreeSpace
from wire.byte_limits import ByteLimit
from wire.errors import InvalidRequest

__all__ = ["DiskForm", "receive_form"]

_BLOCK: Final = 256 * 1024  # bytes
_MAX_PARTS: Final = 128
_MAX_MODEL_BYTES: Final = 1024

_DISK: Final = Disk("The form could not be written to disk or read from it")


@dataclass(frozen=True, slots=True)
class DiskForm:
    """A form on disk; see `chains.forwarding.Form`. `_size` is the size of the parts on disk, in bytes."""

    model: str
    _content_type: str
    _boundary: bytes
    _file: IO[bytes]
    _size: int

    def encode(self, model: str) -> Outgoing:
        """Return the form with this `model`, or without the field if it is empty."""
        head = b""
        if model:
            named = b'Content-Disposition: form-data; name="model"'
            head = b"--%s\r\n%s\r\n\r\n%s\r\n" % (self._boundary, named, model.encode())
        tail = b"--%s--\r\n" % self._boundary

        async def blocks() -> AsyncIterator[bytes]:
            if head:
                yield head
            await _DISK.call(self._file.seek, 0)
            while block := await _DISK.call(self._file.read, _BLOCK):
                yield block
            yield tail

        return Outgoing(self._content_type, len(head) + self._size + len(tail), blocks)


class _Copy:
    """Parses a form and copies it without its `model`. The parser limits the headers of a part.

    python-multipart's FormParser is not suitable: it drops the parts' headers, which the upstream needs.
    """

    def __init__(self, boundary: bytes) -> None:
        self.out = bytearray()
        self.model: bytearray | None = None
        self.ended = False
        self._boundary = boundary
        self._parts = 0
        self._head = bytearray()
        self._name = bytearray()
        self._value = bytearray()
        self._is_model = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, block: bytes) -> bytes:
        """Parse a block; return the part of it to keep."""
        self._parser.write(block)
        kept, self.out = bytes(self.out), bytearray()
        return kept

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest(f"The form has more than the {_MAX_PARTS} parts that are allowed. Send fewer.")
        self._head.clear()
        self._is_model = False

    def _end_header(self) -> None:
        if self._name.strip().lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._is_model = options.get(b"name") == b"model" and b"filename" not in options
        self._head += b"%s: %s\r\n" % (self._name, self._value)
        self._name.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        if not self._is_model:
            self.out += b"--%s\r\n%s\r\n" % (self._boundary, self._head)
        elif self.model is not None:
            raise InvalidRequest("The form has more than one `model`. Send one.", param="model")
        else:
            self.model = bytearray()

    def _add(self, data: bytes, start: int, end: int) -> None:
        if not self._is_model or self.model is None:
            self.out += data[start:end]
            return
        self.model += data[start:end]
        if len(self.model) > _MAX_MODEL_BYTES:
            raise InvalidRequest(
                f"`model` has more than {_MAX_MODEL_BYTES} bytes. Send the name of a model.", param="model"
            )

    def _end_part(self) -> None:
        if not self._is_model:
            self.out += b"\r\n"

    def _end(self) -> None:
        self.ended = True


@asynccontextmanager
async def receive_form(
    request: Request, folder: Path, free_space: FreeSpace, *, max_bytes: int
) -> AsyncIterator[DiskForm]:
    """Receive a whole form into an unnamed file in `folder`, removed at the end; `free_space` limits its disk space.

    Raises TooLarge, InvalidRequest for a form that is broken or cut off, StoreFull if space is short, StoreFailed.
    """
    limit = ByteLimit("The form", max_bytes, "MAX_FILE_BYTES", "send a smaller file")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes + SLACK:
        raise limit.refuse(int(length))
    boundary = boundary_of(request.headers)
    if not boundary:
        raise InvalidRequest("The content type of your request names no `boundary`.")
    async with free_space.claimed(announced=announced_bytes(request, max_bytes)) as claim:
        file = await _DISK.open(_open_nameless, folder)
        try:
            copy, size = _Copy(boundary), 0
            async for block in _received(request, copy, limit):
                size += len(block)
                await _DISK.call(claim.write, file, block)
            await _DISK.call(file.flush)
            claim.release()
            model = (copy.model or b"").decode("utf-8", "replace")
            yield DiskForm(model, request.headers["content-type"], boundary, file, size)
        finally:
            await asyncio.shield(_DISK.call(file.close))


def _open_nameless(folder: Path) -> IO[bytes]:
    return TemporaryFile(dir=folder)


async def _received(request: Request, copy: _Copy, limit: ByteLimit) -> AsyncIterator[bytes]:
    """Yield the part of the form to keep, in larger blocks than it arrives in. Raises TooLarge, InvalidRequest."""
    waiting, more, size = bytearray(), True, 0
    try:
        while more:
            block, more = await receive_block(request.receive)
            size += len(block)
            if size > limit.maximum + SLACK:
                raise limit.refuse()
            waiting += copy.feed(block)
            if len(waiting) >= _BLOCK:
                yield bytes(waiting)
                waiting.clear()
    except FormParserError as error:
        raise InvalidRequest(f"We could not parse the multipart form of your request: {error}.") from None
    if not copy.ended:
        raise InvalidRequest("The multipart form of your request has no end.")
    yield bytes(waiting)
