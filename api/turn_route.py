"""The routes that every turn requests: a thread, a message, a run.

FastAPI takes longer to resolve an endpoint's parameters, and to find one route among eighty, than these endpoints take
to work. A `TurnRoute` is in the app's table of routes and in the OpenAPI document like any other route, but it is the
first to be matched, and reads its parameters from the request directly. It knows the kinds of parameters in `_READERS`
only: an endpoint with another one fails when the app is built.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError

from api.body_route import BodyRoute, Handler
from api.depends import (
    EXTENSIONS_HEADER,
    V1,
    Deps,
    Extensions,
    Include,
    Owner,
    Parts,
    ThreadId,
    check_include,
    is_v1,
)
from api.head import head_of
from wire.validation import check_id, explain

__all__ = ["TurnEndpoint", "TurnRoute", "add_turn_routes"]

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


@dataclass(frozen=True, slots=True)
class TurnEndpoint:
    """What a `POST` route of a turn answers, and how the OpenAPI document describes it."""

    path: str
    tag: str
    endpoint: Callable[..., Any]
    response_model: Any
    responses: Mapping[int | str, dict[str, Any]] = field(default_factory=dict)


def add_turn_routes(router: APIRouter, endpoints: Sequence[TurnEndpoint], prefix: str, *, in_schema: bool) -> None:
    """Add a route for each endpoint to the app's own router. Call it before routes that match the same paths."""
    for each in endpoints:
        router.add_api_route(
            prefix + each.path,
            each.endpoint,
            methods=["POST"],
            tags=[each.tag],
            response_model=each.response_model,
            responses=dict(each.responses),
            include_in_schema=in_schema,
            route_class_override=TurnRoute,
        )


def _deps(request: Request) -> Deps:
    deps: Deps = request.app.state.deps
    return deps


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
    Parts: _deps,
    Owner: _owner,
    V1: _asks_v1,
    ThreadId: _thread_id,
    Extensions: _asks_extensions,
    Include: _includes,
}
"""By the annotations of `api.depends`, which say the same to FastAPI."""
