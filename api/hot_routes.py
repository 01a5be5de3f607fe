"""The most frequently requested routes: to create a thread, a message and a run.

FastAPI takes longer to find one route among eighty, and to resolve an endpoint's parameters, than these endpoints take
for their work. A `HotRoute` is in the app's route table and in the OpenAPI document like any other route, but it is
matched first and reads its parameters directly from the request. It supports only the parameters in `_READERS`; with
any other, building the app fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError

from api.body_route import BodyRoute, Handler
from api.depends import (
    EXTENSIONS_HEADER,
    V1,
    Deps,
    Extensions,
    Include,
    InjectedDeps,
    Owner,
    ThreadId,
    check_include,
    is_v1,
)
from api.head import head_of
from api.routers import operation_id
from api.unversioned_paths import VERSION_PREFIX
from wire.validation import check_id, explain

__all__ = ["HotEndpoint", "HotRoute", "build_hot_router"]

_BOOLEAN: Final = TypeAdapter(bool)


class HotRoute(BodyRoute):
    """A route that calls its endpoint without FastAPI's resolution of parameters."""

    def get_endpoint_handler(self) -> Handler:
        """Return a handler that reads the parameters and calls the endpoint."""
        parameters = signature(self.endpoint).parameters.values()
        readers = {each.name: _READERS[each.annotation] for each in parameters if each.name != "body"}

        async def handle(request: Request) -> Response:
            given = {name: read(request) for name, read in readers.items()}
            response: Response = await self.endpoint(body=await request.json(), **given)
            return response

        return handle


@dataclass(frozen=True, slots=True)
class HotEndpoint:
    """A frequently requested `POST` route: its endpoint, and its description for the OpenAPI document."""

    path: str
    tag: str
    endpoint: Callable[..., object]
    response_model: object
    responses: Mapping[int | str, dict[str, object]] = field(default_factory=dict)


def build_hot_router(endpoints: Sequence[HotEndpoint]) -> APIRouter:
    """Return a router with a route for each endpoint. Add its routes before others that match the same paths."""
    router = APIRouter(prefix=VERSION_PREFIX, route_class=HotRoute, generate_unique_id_function=operation_id)
    for each in endpoints:
        router.add_api_route(
            each.path,
            each.endpoint,
            methods=["POST"],
            tags=[each.tag],
            response_model=each.response_model,
            responses=dict(each.responses),
        )
    return router


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
    asked = _boolean(query, "query", "extensions"), _boolean(header, "header", EXTENSIONS_HEADER)  # both are checked
    return any(asked)


def _boolean(text: str | None, *loc: str) -> bool:
    try:
        return text is not None and _BOOLEAN.validate_python(text)
    except ValidationError as error:
        raise explain([{**each, "loc": loc} for each in error.errors()]) from None


def _includes(request: Request) -> bool:
    if not request.scope["query_string"]:
        return False
    query = request.query_params
    return check_include([*query.getlist("include[]"), *query.getlist("include")])


_READERS: Final[dict[object, Callable[[Request], object]]] = {
    InjectedDeps: _deps,
    Owner: _owner,
    V1: _asks_v1,
    ThreadId: _thread_id,
    Extensions: _asks_extensions,
    Include: _includes,
}
"""By the annotations of `api.depends`, which do the same in FastAPI."""
