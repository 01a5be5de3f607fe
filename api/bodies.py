"""Reads request bodies: once, with limits, as JSON only.

The result is JSON that can also be stored: encoding it again rules out numbers that are too large and invalid text.
"""

import codecs
from collections.abc import Callable, Mapping
from typing import Final

import orjson
from starlette.types import Message, Receive, Scope

from api.azure import DEPLOYMENT
from api.body_memory import MemoryClaim
from api.body_threads import LARGE, work_on_body
from api.depends import is_v1
from api.head import head_of
from wire.byte_limits import ByteLimit
from wire.errors import InvalidRequest, TooLarge, UnsupportedMedia
from wire.nesting import nesting
from wire.paths import truncated

__all__ = ["EMPTY_ARRAY", "MAX_DEPTH", "MAX_VALUES", "decode_filled", "read_body", "receive_block", "replayed"]

EMPTY_ARRAY: Final = b"[]"
"""An empty array in a body after `read_body`, which normalizes spaces."""

MAX_DEPTH: Final = 100
"""Levels of nesting; encoders fail beyond some hundreds."""

MAX_VALUES: Final = 60_000
"""Elements of arrays and fields of objects in one body. Each is a Python object and microseconds of work, however few
bytes it has."""

_MAX_FIELDS: Final = 1000
"""Fields of the object that a body is. Requests have a few dozen; each further one is one more error to list."""

_BLOCK: Final = 64 * 1024
"""Bytes that are scanned at a time."""


def decode_filled(body: bytes, fill: Callable[[object], object]) -> object:
    """Decode a body; `fill` replaces PHP's empty arrays in it. Needs processor time: use a thread for a large body."""
    data = orjson.loads(body)
    return fill(data) if EMPTY_ARRAY in body else data


async def read_body(scope: Scope, receive: Receive, max_bytes: int, share: MemoryClaim) -> Receive:
    """Read the body and return a `receive` that returns it as JSON; an empty body, of any type, becomes `{}`.

    The body of a request to an Azure deployment gets the deployment's name as its `model`. The original body of a v1
    client is kept in the request's state, as `sent`. The body is counted in `share`, from its first block on. Raises
    TooLarge, UnsupportedMedia, InvalidRequest, Unavailable.
    """
    headers = head_of(scope)
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _limit(max_bytes).refuse(int(length))
    body = await _read(receive, max_bytes, share)
    if body:
        _check_type(headers)
        if is_v1(headers):
            scope["state"]["sent"] = body.removeprefix(codecs.BOM_UTF8)
    model = scope["state"].get(DEPLOYMENT)
    if len(body) > LARGE:
        body = await work_on_body(len(body), _normal, body, model=model)
    else:
        body = _normal(body or b"{}", model=model)
    kept = [pair for pair in scope["headers"] if pair[0] not in (b"content-type", b"content-length")]
    length_now = str(len(body)).encode()
    scope["headers"] = [*kept, (b"content-type", b"application/json"), (b"content-length", length_now)]
    return replayed(body, receive)


async def _read(receive: Receive, max_bytes: int, share: MemoryClaim) -> bytes:
    blocks, size, more = [], 0, True
    while more:
        block, more = await receive_block(receive)
        size += len(block)
        if size > max_bytes:
            raise _limit(max_bytes).refuse()
        if more or size > LARGE:
            share.acquire(len(block))
        blocks.append(block)
    return b"".join(blocks)


async def receive_block(receive: Receive) -> tuple[bytes, bool]:
    """Return the next block of a body, and whether more follows. Raises InvalidRequest if the client disconnects."""
    message = await receive()  # the time is limited, see `api.connection`
    if message["type"] == "http.disconnect":
        # The client cannot read the answer, but a partial body must not pass as an empty one.
        raise InvalidRequest("The connection was closed before the request body had ended.")
    return message.get("body", b""), message.get("more_body", False)


def _limit(max_bytes: int) -> ByteLimit:
    return ByteLimit("The request body", max_bytes, "MAX_BODY_BYTES", "send it in several requests")


def _check_type(headers: Mapping[str, str]) -> None:
    content_type, coding = headers.get("content-type", ""), headers.get("content-encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        # Compressed data can expand without limit, and no client of the API compresses its requests.
        raise UnsupportedMedia(f"Unsupported content encoding '{truncated(coding)}'. Send the body without one.")
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMedia(f"Unsupported content type '{truncated(content_type)}'. Send 'application/json'.")


def _normal(body: bytes, *, model: str | None) -> bytes:
    if len(body) > MAX_VALUES and _count_values(body) > MAX_VALUES:
        raise TooLarge(
            f"The request body has more than the {MAX_VALUES} values that are allowed, counting the elements of all "
            "arrays and the fields of all objects. Send it in several requests."
        )
    try:
        value = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
        if isinstance(value, dict) and len(value) > _MAX_FIELDS:
            raise InvalidRequest(f"The request body has {len(value)} fields; at most {_MAX_FIELDS} are allowed.")
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and nesting(value, MAX_DEPTH) > MAX_DEPTH:
            raise _unparsable(f"it is nested more than {MAX_DEPTH} levels deep")
        if model is not None and (isinstance(value, dict) or value == []):
            value = {**(value or {}), "model": model}
        return orjson.dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError) as error:
        raise _unparsable(str(error)) from None


def _count_values(body: bytes) -> int:
    """Return the number of values in JSON, possibly slightly too high, without decoding it; stop soon after
    `MAX_VALUES`.

    It counts commas and brackets outside strings.
    """
    if (roughly := _count_marks(body)) <= MAX_VALUES:
        return roughly
    count, in_string, rest = 0, False, b""
    for start in range(0, len(body), _BLOCK):
        block = (rest + body[start : start + _BLOCK]).replace(b"\\\\", b"")
        rest = b"\\" if block.endswith(b"\\") else b""  # the character that it escapes is in the next block
        pieces = block.removesuffix(rest).replace(b'\\"', b"").split(b'"')
        count += _count_marks(b"".join(pieces[in_string::2]))
        if count > MAX_VALUES:
            break
        in_string ^= len(pieces) % 2 == 0
    return count


def _count_marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _unparsable(reason: str) -> InvalidRequest:
    return InvalidRequest(f"We could not parse the JSON body of your request: {reason}.", code="invalid_json")


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns this body first."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
