"""Converts an API's answer to text for the model: limited in size, and with the status unless it is a success.

Invariants: memory holds no more than the limit, however the body is sent or compressed. The text contains no secret of
the action.
"""

import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus

import httpcore2

from graphs.tools.credentials import Credentials
from graphs.tools.decompression import Decompressor
from wire.charsets import text_codec

__all__ = ["ApiResponse", "read_response"]

MAX_ERROR_CHARACTERS = 4_000
_TEXTUAL = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|yaml|javascript|graphql|sql|toml|x-yaml|x-ndjson|ndjson|jsonl|x-www-form-urlencoded|"
    r"problem\+json|xhtml\+xml)|image/svg\+xml"
)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """The status, and the text for the model."""

    status: int
    text: str


async def read_response(response: httpcore2.Response, *, max_bytes: int, credentials: Credentials) -> ApiResponse:
    """Read at most `max_bytes` of the body; the caller closes the response."""
    headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    # Enough beyond the limit that a secret across the cut is complete when it is searched for.
    body, whole = await _read(response, headers.get("content-encoding", ""), max_bytes + credentials.longest())
    text = _decode(body, headers, whole=whole, credentials=credentials)
    if text is None:
        kind = headers.get("content-type", "unknown type").partition(";")[0][:100]
        size = f"{len(body)} bytes" if whole else f"more than {max_bytes} bytes"
        text = f"(The answer is {kind}, {size}; it cannot be shown as text.)"
    else:
        cut = len(text.encode()) > max_bytes or not whole
        if cut:
            text = text.encode()[:max_bytes].decode(errors="ignore")
            text += f"\n\n(The answer was cut here; it is longer than {max_bytes} bytes.)"
    if 200 <= response.status < 300:
        return ApiResponse(response.status, text or f"(HTTP {response.status}, no content)")
    if len(text) > MAX_ERROR_CHARACTERS:
        text = text[:MAX_ERROR_CHARACTERS] + "…"
    return ApiResponse(
        response.status, f"HTTP {response.status} {_phrase(response.status)}".rstrip() + (f"\n{text}" if text else "")
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # not a standard status
        return ""


async def _read(response: httpcore2.Response, coding: str, max_bytes: int) -> tuple[bytes, bool]:
    """Return the body, decompressed, and whether it is complete."""
    coding = coding.strip().lower()
    # Some servers compress although identity is requested. Decompression is limited, so a zip bomb has no effect.
    decompressor = Decompressor(coding, max_bytes) if coding in ("gzip", "x-gzip", "deflate") else None
    found = bytearray()
    stream = response.stream
    assert isinstance(stream, AsyncIterator) or hasattr(stream, "__aiter__")
    async for part in stream:
        try:
            found += part if decompressor is None else decompressor.decompress(part, max_bytes + 1 - len(found))
        except zlib.error:
            return bytes(found[:max_bytes]), False
        if len(found) > max_bytes or (decompressor is not None and decompressor.exceeded):
            return bytes(found[:max_bytes]), False
        if decompressor is not None and decompressor.ended:
            break  # the rest is not part of the body; the caller closes the connection
    return bytes(found), decompressor is None or decompressor.whole or not found


def _decode(body: bytes, headers: dict[str, str], *, whole: bool, credentials: Credentials) -> str | None:
    kind, _, parameters = headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    charset = _charset(parameters)
    if kind and not _TEXTUAL.fullmatch(kind):
        return None if body else ""
    if b"\0" in body[:1024] and charset is None:
        return None
    text = body.decode(charset or "utf-8", errors="replace")
    if not kind and charset is None and "\ufffd" in (text if whole else text[:-4]):
        return None
    return credentials.hide(text)


def _charset(parameters: str) -> str | None:
    """Return Python's name of the text charset that a content type names, UTF-8 for unknown ones; None if it names
    none."""
    named = re.search(r"charset=\"?([\w.:-]{1,40})", parameters)
    if named is None:
        return None
    return text_codec(named[1]) or "utf-8"
