"""The routes that every turn requests: a thread, a message, a run.

FastAPI resolves the parameters of an endpoint for longer than these endpoints work (0.13 ms). A `TurnRoute` is in
FastAPI's table and OpenAPI document like any other route, but reads its parameters from the request directly. It knows
the kinds of parameters in `_READERS` only: an endpoint with another one fails when the app is built.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any, Final

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError

from api.body_route import BodyRoute, Handler
from api.depends import (
    EXTENSIONS_HEADER,
    V1,
    Extensions,
    House,
    Include,
    Owner,
    Parts,
    ThreadId,
    check_include,
    is_v1,
)
from api.head import head_of
from wire.validation import check_id, explain

__all__ = ["TurnRoute"]

_BOOLEAN: Final = TypeAdapter(bool)


class TurnRoute(BodyRoute):
    """A route that calls its endpoint without FastAPI's resolving of parameters."""

    def get_endpoint_handler(self) -> Handler:
        """Return what reads the parameters and calls the endpoint."""
        parameters = signature(self.endpoint).parameters.values()
        readers = {each.name: _READERS[each.annotation] for each in parameters if each.name != "body"}

        async def handle(request: Request) -> Response:
            given = {name: read(request) for name, read in readers.items()}
            response: Response = await self.endpoint(body=await request.json(), **given)
            return response

        return handle


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


def _owner(request: Request) -> str:
    owner: str = request.scope["state"]["owner"]
    return owner


def _thread_id(request: Request) -> str:
    thread_id: str = request.path_params["thread_id"]
    check_id("thread_id", thread_id, "thread")
    return thread_id


def _asks_v1(request: Request) -> bool:
    return is_v1(head_of(request.scope))


def _asks_extensions(request: Request) -> bool:
    header = head_of(request.scope).get(EXTENSIONS_HEADER)
    query = request.query_params.get("extensions") if request.scope["query_string"] else None
    return _boolean(query, "query", "extensions") or _boolean(header, "header", EXTENSIONS_HEADER)


def _boolean(text: str | None, *place: str) -> bool:
    try:
        return text is not None and _BOOLEAN.validate_python(text)
    except ValidationError as error:
        raise explain([{**each, "loc": place} for each in error.errors()]) from None


def _includes(request: Request) -> bool:
    if not request.scope["query_string"]:
        return False
    query = request.query_params
    return check_include([*query.getlist("include[]"), *query.getlist("include")])


_READERS: Final[dict[Any, Callable[[Request], Any]]] = {
    Parts: _house,
    Owner: _owner,
    V1: _asks_v1,
    ThreadId: _thread_id,
    Extensions: _asks_extensions,
    Include: _includes,
}
"""By the annotations of `api.depends`, which say the same to FastAPI."""
