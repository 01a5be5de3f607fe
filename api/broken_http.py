"""Requests that are refused below the app, because their HTTP is invalid or exceeds a limit."""

import logging
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from telemetry.repeated_warnings import RepeatedWarning
from wire.errors import InvalidRequest
from wire.ids import new_id

__all__ = ["BROKEN", "TooMuchError", "refusal"]

BROKEN: Final = RepeatedWarning(logging.getLogger("threadhold"), "requests that are not valid HTTP were refused: %d")


class TooMuchError(Exception):
    """Stops the parser: a request has too many headers, trailers or chunks, or a target that is too long."""


def refusal(status: HTTPStatus, message: str) -> bytes:
    """Return the bytes of a response after which the connection is closed."""
    body = _body(message)
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {new_id('req')}\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + head.encode() + body


@lru_cache(16)
def _body(message: str) -> bytes:
    return orjson.dumps(InvalidRequest(message, code="invalid_http").body())
