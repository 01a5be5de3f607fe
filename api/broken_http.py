"""Requests that are refused below the app, because their HTTP is invalid or exceeds a limit."""

from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from wire.errors import InvalidRequest
from wire.ids import new_id

__all__ = ["TooMuchError", "refusal"]


class TooMuchError(Exception):
    """Stops the parser: a request has too many headers, trailers or chunks, or a target that is too long."""


def refusal(status: HTTPStatus, message: str) -> bytes:
    """Return the bytes of an answer after which the connection is closed."""
    body = orjson.dumps(InvalidRequest(message, code="invalid_http").body())
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {new_id('req')}\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + head.encode() + body
