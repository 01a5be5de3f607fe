"""The requests that every turn makes, on a short way: FastAPI resolves a request for longer than its endpoint works.

Law: nothing is decided here. The endpoints, their models and the checks of ids are the routes' own; whatever is not
plainly right (an id, a body, a query) goes FastAPI's way and is told there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import APIRouter, Response
from opentelemetry import trace
from pydantic import BaseModel, ValidationError
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import messages, runs, threads
from api.body_threads import is_large
from api.depends import EXTENSIONS_HEADER, House, is_v1
from api.head import head_of
from api.problems import own_answer
from wire.errors import InvalidRequest, ThreadholdError
from wire.messages import MessageCreate
from wire.runs import RunCreate, ThreadRunCreate
from wire.threads import ThreadCreate
from wire.validation import check_id

__all__ = ["EXPRESS", "Express"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the endpoints get, as FastAPI would hand it to them."""

    house: House
    owner: str
    v1: bool
    thread_id: str = ""


@dataclass(frozen=True, slots=True)
class _Way:
    """A request's model and endpoint. `route` is what FastAPI would have put into the scope."""

    model: type[BaseModel]
    answer: Callable[[Any, _Asked], Awaitable[Response]]
    route: Route


def _route(router: APIRouter, endpoint: Callable[..., Any]) -> Route:
    return next(route for route in router.routes if isinstance(route, Route) and route.endpoint is endpoint)


async def _create_thread(body: ThreadCreate, asked: _Asked) -> Response:
    return await threads.create_thread(body, asked.house, asked.owner, asked.v1)


async def _create_message(body: MessageCreate, asked: _Asked) -> Response:
    return await messages.create_message(asked.thread_id, body, asked.house, asked.owner, asked.v1)


async def _create_run(body: RunCreate, asked: _Asked) -> Response:
    house, owner, v1 = asked.house, asked.owner, asked.v1
    return await runs.create_run(asked.thread_id, body, house, owner, v1, extensions=False, contents=False)


async def _create_thread_and_run(body: ThreadRunCreate, asked: _Asked) -> Response:
    return await runs.create_thread_and_run(body, asked.house, asked.owner, asked.v1, extensions=False, _=False)


EXPRESS: Final = {
    "/threads": _Way(ThreadCreate, _create_thread, _route(threads.router, threads.create_thread)),
    "/threads/runs": _Way(ThreadRunCreate, _create_thread_and_run, _route(runs.router, runs.create_thread_and_run)),
    "/threads/{thread_id}/messages": _Way(
        MessageCreate, _create_message, _route(messages.router, messages.create_message)
    ),
    "/threads/{thread_id}/runs": _Way(RunCreate, _create_run, _route(runs.router, runs.create_run)),
}
"""POST requests by their path, which may begin with `/v1`."""


class Express:
    """Answers what it knows, and hands everything else to `app`. It stands behind the gate."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and _is_plain(scope):
            path, thread_id = _taken_apart(scope["path"].removeprefix("/v1"))
            if (way := EXPRESS.get(path)) is not None:
                message = await receive()
                body = _parsed(way, message, thread_id)
                if body is not None:
                    response = await _answered(way, body, thread_id, scope)
                    await response(scope, receive, send)
                    return
                receive = _again(message, receive)
        await self._app(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    """Whether the request says all it has to say in its path and body."""
    return not scope["query_string"] and EXTENSIONS_HEADER not in head_of(scope)


def _taken_apart(path: str) -> tuple[str, str]:
    """Return the path as its route spells it, and the thread's id in it."""
    parts = path.split("/")
    if len(parts) == 4 and parts[1] == "threads":
        return f"/threads/{{thread_id}}/{parts[3]}", parts[2]
    return path, ""


def _parsed(way: _Way, message: Message, thread_id: str) -> Any:
    """Return the body as its model; None if anything is wrong, or if checking it here would take long."""
    if message["type"] != "http.request" or message.get("more_body", False) or is_large(message["body"]):
        return None
    try:
        if "{" in way.route.path:
            check_id("thread_id", thread_id, "thread")
        return way.model.model_validate(orjson.loads(message["body"]))
    except (InvalidRequest, ValidationError, orjson.JSONDecodeError):
        return None


async def _answered(way: _Way, body: Any, thread_id: str, scope: Scope) -> Response:
    scope["route"] = way.route
    scope["path_params"] = {"thread_id": thread_id} if thread_id else {}
    span = trace.get_current_span()
    if span.is_recording():  # as FastAPI names it on its own way
        named = ("/v1" if scope["path"].startswith("/v1/") else "") + way.route.path
        span.set_attribute("http.route", named)
        span.update_name(f"POST {named}")
    asked = _Asked(scope["app"].state.house, scope["state"]["owner"], is_v1(head_of(scope)), thread_id)
    try:
        return await way.answer(body, asked)
    except ThreadholdError as error:
        return own_answer(error)


def _again(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
