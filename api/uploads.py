"""Multipart uploads: one file, which is streamed to disk and not kept in memory, and a few short fields.

Invariants: a form is accepted as a whole or refused. A form that is too long is refused as soon as this is known: by
its `Content-Length` before the first byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.bodies import receive_block
from api.part_names import MAX_HEADER_BYTES, part_names
from store.ports import BlobWriter
from wire.byte_limits import ByteLimit
from wire.errors import InvalidRequest, UnsupportedMedia
from wire.files import clean_filename
from wire.validation import truncated

__all__ = ["SLACK", "Upload", "announced_bytes", "boundary_of", "file_limit", "is_form", "read_form"]

SLACK: Final = 64 * 1024
"""Bytes that a form can have in addition to its file."""

_MAX_PARTS: Final = 16
_MAX_TYPE_CHARS: Final = 1024
"""Maximum characters of a form's content type; a boundary has at most 70 (RFC 2046, section 5.1.1)."""


def is_form(headers: Mapping[str, str]) -> bool:
    """Return whether a request's body is a multipart form."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


def boundary_of(headers: Mapping[str, str]) -> bytes:
    """Return the boundary of a form; empty if its content type names none. Raises InvalidRequest."""
    content_type = headers["content-type"]
    if len(content_type) > _MAX_TYPE_CHARS:
        raise InvalidRequest(
            f"The content type of your request has {len(content_type)} characters; at most {_MAX_TYPE_CHARS} are "
            "allowed. Send only the boundary."
        )
    boundary: bytes = parse_options_header(content_type)[1].get(b"boundary", b"")
    return boundary


def file_limit(max_bytes: int) -> ByteLimit:
    """Return the limit of a file."""
    return ByteLimit("The file", max_bytes, "MAX_FILE_BYTES", "send a smaller file")


@dataclass(slots=True)
class Upload:
    """A form without the file's bytes: the decoded name of the file, and the fields, with `a[b]` as {"a": {"b": …}}."""

    filename: str | None = None
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class _Part:
    """The part that is being parsed. `data` is the value of a field; the file's bytes are kept elsewhere."""

    name: str
    data: bytearray = field(default_factory=bytearray)


class _Form:
    """Parses the body block by block; `feed` returns the file's bytes in it. `file` is the name of the file's part.

    python-multipart's FormParser is not suitable: it writes the file itself, on the event loop.
    """

    def __init__(self, boundary: bytes, file: str) -> None:
        self._name = file
        self.upload = Upload()
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header = [bytearray(), bytearray()]
        self._part: _Part | None = None
        self._file = bytearray()
        self._parts = 0
        self._spare = SLACK
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
            max_header_size=MAX_HEADER_BYTES,
        )

    def feed(self, block: bytes) -> bytes:
        """Parse a block; return the file's bytes in it."""
        self._parser.write(block)
        data, self._file = bytes(self._file), bytearray()
        return data

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest(f"The form has more than the {_MAX_PARTS} parts that are allowed. Send fewer.")
        self._headers = {}

    def _header_end(self) -> None:
        name, value = (bytes(piece) for piece in self._header)
        self._headers[name.strip().lower()] = value
        self._header = [bytearray(), bytearray()]

    def _headers_end(self) -> None:
        headers = self._headers
        name, filename = part_names(headers.get(b"content-disposition", b""), headers.get(b"content-type", b""))
        if name is None:
            raise InvalidRequest("A part of the form has no name.")
        self._part = _Part(name)
        if name == self._name:
            if self.upload.filename is not None:
                raise _twice(self._name)
            self.upload.filename = filename or "file"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None and self._part.name == self._name:
            self._file += data[start:end]
            return
        self._spare -= end - start
        if self._spare < 0:
            raise InvalidRequest(
                f"The form has more than the {SLACK} bytes that are allowed besides its file. Send shorter fields."
            )
        if self._part is not None:
            self._part.data += data[start:end]

    def _part_end(self) -> None:
        part, self._part = self._part, None
        if part is not None and part.name != self._name:
            _set_field(self.upload.fields, part.name, part.data.decode("utf-8", "replace"))

    def _end(self) -> None:
        self.ended = True


def announced_bytes(request: Request, max_bytes: int) -> int:
    """Return the body size that a request announces; 0 if it announces none, or more than is allowed."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() and int(length) <= max_bytes + SLACK else 0


async def read_form(request: Request, writer: BlobWriter, limit: ByteLimit, *, file: str = "file") -> Upload:
    """Read a form, and write its part named `file` to `writer`. The file's name is cleaned.

    `writer` enforces `limit`, the limit of the file. A request that announces more is refused before its body is read.

    Raises TooLarge, UnsupportedMedia (not a form), InvalidRequest (malformed, without a file, or cut off).
    """
    if not is_form(request.headers):
        raise UnsupportedMedia(
            f"Unsupported content type '{truncated(request.headers.get('content-type', ''))}'. "
            "Send 'multipart/form-data'."
        )
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit.maximum + SLACK:
        raise replace(limit, what=f"{limit.what}, with its form,").refuse(int(length))
    boundary = boundary_of(request.headers)
    try:
        form = _Form(boundary, file)
        more = bool(boundary)
        while more:
            block, more = await receive_block(request.receive)
            if data := form.feed(block):
                await writer.write(data)
    except FormParserError as error:
        raise InvalidRequest(f"We could not parse the multipart form of your request: {error}.") from None
    if not form.ended:
        raise InvalidRequest("The multipart form of your request has no end.")
    if form.upload.filename is None:
        raise InvalidRequest(f"Missing required parameter: '{file}'.", param=file, code="missing_required_parameter")
    form.upload.filename = clean_filename(form.upload.filename)
    return form.upload


def _twice(name: str) -> InvalidRequest:
    return InvalidRequest(f"The form has more than one `{truncated(name)}`.", param=truncated(name))


def _set_field(fields: dict[str, object], name: str, value: str) -> None:
    outer, bracket, inner = name.partition("[")
    parsed: str | int = int(value) if value.isascii() and value.isdigit() and len(value) < 16 else value
    into, key = fields, name
    if bracket and inner.endswith("]") and isinstance(nested := fields.setdefault(outer, {}), dict):
        into, key = nested, inner[:-1]
    if key in into:
        raise _twice(name)
    into[key] = parsed
