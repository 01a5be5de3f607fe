"""LangServe's routes: the chat chain at `/chat`, runs at `/assistant`, and their playgrounds.

The only file that imports LangServe, which is in maintenance mode. It is imported when the server starts, not before.
LangServe's feedback endpoint is disabled.

Streams of runs are framed here, byte for byte as LangServe frames them. LangServe itself decodes, re-encodes and sends
every event separately, which costs 80 microseconds of processor time per event.
"""

import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from langserve import APIHandler, add_routes
from langsmith.utils import tracing_is_enabled

from api.bodies import decode_filled
from api.body_threads import is_large, work_on_body
from api.depends import Deps
from api.langserve_bodies import body_check, check_config_hash
from api.sse import ByteStream, while_connected
from chains import ChatInput, build_chat_chain
from chains.bridge import BATCH_SLOTS
from chains.chat import CALL_SLOT
from graphs.run_runnable import OWNER, RunInput, RunRunnable
from wire.empty_objects import fill_langserve
from wire.events import Event

__all__ = ["build_router"]

_FRAME: Final = b'event: data\r\ndata: {"event":"%b","data":%b,"id":%d}\r\n\r\n'

_CALLS: Final = frozenset({"invoke", "batch", "stream", "stream_log", "stream_events"})

# The playgrounds request schemas; their Share button links to a URL that contains the configuration.
_SHOWN: Final = ("input_schema", "output_schema", "config_schema", "config_hashes")


def build_router(deps: Deps) -> APIRouter:
    """Return the routes for these dependencies."""
    # The playgrounds post to /stream_log, for which LangServe calls `astream_log`, which LangChain has deprecated.
    warnings.filterwarnings("ignore", message=r"astream_log is deprecated", category=DeprecationWarning)
    router = APIRouter(route_class=_Route, include_in_schema=False)
    calls = deps.calls

    def with_owner(config: dict[str, Any], request: Request) -> dict[str, Any]:  # as LangServe calls it
        """Set the owner of the request; a value from the client is overwritten."""
        owner = request.state.owner
        own = {OWNER: owner, BATCH_SLOTS: calls.of_batch(owner), CALL_SLOT: partial(calls.slot, owner)}
        return {**config, "configurable": {**config.get("configurable", {}), **own}}

    async def check_line(request: Request) -> None:
        """Refuse a call that can neither start nor wait; runs have a queue of their own."""
        if request.method == "POST" and request.url.path.rpartition("/")[2] in _CALLS:
            calls.check(request.state.owner)

    add_routes(
        router,
        build_chat_chain(deps.upstream, returns_errors=True),
        path="/chat",
        dependencies=[Depends(check_config_hash), Depends(body_check(ChatInput)), Depends(check_line)],
        enabled_endpoints=["invoke", "batch", "stream", "stream_log", "stream_events", "playground", *_SHOWN],
        per_req_config_modifier=with_owner,
        enable_feedback_endpoint=False,
    )
    runs = RunRunnable(deps.runner, deps.store)
    handler = _Runs(runs, path="/assistant", per_req_config_modifier=with_owner)
    checked = [Depends(check_config_hash), Depends(body_check(RunInput))]
    for path in ("/assistant/stream", "/assistant/c/{config_hash}/stream"):  # before LangServe's own, to replace them
        router.add_api_route(path, handler.stream_runs, methods=["POST"], include_in_schema=False, dependencies=checked)
    add_routes(
        router,
        runs,
        path="/assistant",
        dependencies=checked,
        enabled_endpoints=["invoke", "batch", "stream", "stream_log", "playground", *_SHOWN],
        per_req_config_modifier=with_owner,
        enable_feedback_endpoint=False,
    )
    return router


_LEFT: Final = ("/batch", "/chat/invoke", "/chat/c/{config_hash}/invoke")
"""Ends of the paths whose answers are not streamed: there, LangServe does not notice that the client disconnects."""


_MAX_FILE: Final = 255
"""Characters of the path of a playground's file."""


class _Request(Request):
    """A request whose body has PHP's empty arrays replaced by objects."""

    _filled: list[object] | None = None

    async def json(self) -> object:
        """Return the body with PHP's empty arrays replaced."""
        if self._filled is None:
            sent = await self.body()
            if is_large(sent):
                self._filled = [await work_on_body(len(sent), decode_filled, sent, fill_langserve)]
            else:
                self._filled = [decode_filled(sent, fill_langserve)]
        return self._filled[0]


class _Route(APIRoute):
    """Passes `_Request` to LangServe's endpoints. Batches and chats end if the client disconnects."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        """Return FastAPI's handler, called with a `_Request`."""
        handle = super().get_route_handler()

        async def handle_filled(request: Request) -> Response:
            file = request.path_params.get("file_path", "")  # of a playground
            if "\0" in file or len(file) > _MAX_FILE:
                # The system does not allow such names, and LangServe would answer 500.
                raise HTTPException(HTTPStatus.NOT_FOUND)
            filled = _Request(request.scope, request.receive)
            if not self.path.endswith(_LEFT):
                response = await handle(filled)
                if response.status_code == HTTPStatus.NOT_FOUND:
                    raise HTTPException(HTTPStatus.NOT_FOUND)  # LangServe answers with text for a playground's files
                return response
            await filled.body()
            answer = await while_connected(request.receive, handle(filled))
            return Response(status_code=499) if answer is None else answer  # the client has left

        return handle_filled


class _Runs(APIHandler):
    """LangServe's handler for runs, which checks inputs and configurations, with streams of our own."""

    async def stream_runs(self, request: Request, config_hash: str = "") -> Response:
        """Stream a run; if LangSmith traces it, through LangServe's own handler."""
        if tracing_is_enabled():
            return await self.stream(request, config_hash=config_hash)
        config, given = await self._get_config_and_input(request, config_hash, endpoint="stream")
        assert isinstance(self._runnable, RunRunnable)
        blocks = _frames(self._runnable.batches(given, config), str(config["run_id"]))
        return ByteStream(blocks, _nothing, "text/event-stream; charset=utf-8", ping=b": ping\r\n\r\n")


async def _frames(batches: AsyncIterator[Sequence[Event]], run_id: str) -> AsyncIterator[bytes]:
    head = b'event: metadata\r\ndata: {"run_id": "%b"}\r\n\r\n' % run_id.encode()
    async with aclosing(batches) as open_batches:  # type: ignore[type-var]
        async for batch in open_batches:
            yield head + b"".join([_FRAME % (name.encode(), json, number) for number, name, json in batch])
            head = b""
    yield b"event: end\r\n\r\n"


def _nothing() -> None:
    """Do nothing: closing the iterator ends the reading of the run."""
