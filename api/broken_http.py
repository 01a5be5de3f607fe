"""Requests that are refused below the app, because their HTTP is invalid or exceeds a limit."""

from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from wire.errors import InvalidRequest
from wire.ids import new_id

__all__ = ["TooMuchError", "refusal"]


class TooMuchError(Exception):
    """A request has too many headers, trailers or chunks, or too long a target."""


def refusal(status: HTTPStatus, message: str) -> bytes:
    """Return a whole answer that ends the connection."""
    body = orjson.dumps(InvalidRequest(message, code="invalid_http").body())
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {new_id('req')}\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + head.encode() + body
