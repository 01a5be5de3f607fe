"""The paths of OpenAI's API, besides chat, that an upstream answers: an allow-list and the route they share.

Headers are allow-listed in both directions: of the client's headers, only a form's content type is sent on, never the
key; of the upstream's, those that `chains.upstream_response` lists.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from api.azure import DEPLOYMENT
from api.bodies import decode_filled
from api.body_threads import is_large, work_on_body
from api.completion_usage import counted_blocks, counter_of, read_tokens
from api.depends import Deps, InjectedDeps
from api.forms import receive_form
from api.routers import api_router
from api.sse import ByteStream, while_connected
from api.uploads import is_form
from chains.forwarding import Body, with_model
from chains.upstream_response import UpstreamResponse
from wire.empty_objects import fill_forwarded
from wire.errors import InvalidRequest, UnsupportedMedia
from wire.paths import truncated

__all__ = ["FORM_PATHS", "FORWARDED", "Forwarded", "forward_json", "router"]

router = api_router("forwarded")

_JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One path. `takes` lists the content types of its body; `name` is the operation's name in the OpenAPI document."""

    path: str
    name: str
    about: str
    takes: tuple[str, ...] = (_JSON,)


FORWARDED: Final = (
    Forwarded("/completions", "create_completion", "Pass a request for a text completion through."),
    Forwarded("/moderations", "create_moderation", "Pass a request for a moderation through."),
    Forwarded("/rerank", "rerank", "Pass a request for a reranking through (not OpenAI's; several engines have it)."),
    Forwarded("/audio/speech", "create_speech", "Pass a request for speech through; the audio streams back."),
    Forwarded("/audio/transcriptions", "create_transcription", "Pass a recording to transcribe through.", (_FORM,)),
    Forwarded("/audio/translations", "create_translation", "Pass a recording to translate through.", (_FORM,)),
    Forwarded("/images/generations", "create_image", "Pass a request for an image through."),
    Forwarded("/images/edits", "edit_image", "Pass images to edit through.", (_FORM, _JSON)),
    Forwarded("/images/variations", "vary_image", "Pass an image to vary through.", (_FORM,)),
)
"""Nothing else is passed through: any other path that is not our own gets 404."""

FORM_PATHS: Final = frozenset(one.path for one in FORWARDED if _FORM in one.takes)
"""Paths whose forms are read here, not by `api.access`."""


async def forward_json(request: Request, deps: Deps, path: str) -> Response:
    """Send a JSON request on. If the client disconnects, the upstream request ends. Raises Problem."""
    sent = await request.body()
    if is_large(sent):
        async with request.app.state.large_bodies.slot(request.state.owner):
            body = await work_on_body(len(sent), decode_filled, sent, fill_forwarded)
    else:
        body = decode_filled(sent, fill_forwarded)
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid type: expected an object.", code="invalid_type")
    return await _passed(request, deps, path, body)


async def _forward_form(request: Request, deps: Deps, path: str) -> Response:
    """Send a form on when it is complete; to an Azure deployment as its `model`. Raises Problem."""
    async with AsyncExitStack() as stack:
        received = receive_form(request, deps.data_dir, deps.free_space, max_bytes=deps.max_file_bytes)
        form = await stack.enter_async_context(received)
        named = with_model(form, getattr(request.state, DEPLOYMENT, ""))
        response = await _passed(request, deps, path, named)
        # An upstream can start its response before it has read the whole form.
        return _Holding(response, stack.pop_all())


class _Holding(Response):
    """A response, and the resources that must stay open until it is sent."""

    def __init__(self, response: Response, stack: AsyncExitStack) -> None:
        super().__init__(status_code=response.status_code)
        self._response = response
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then close."""
        async with self._stack:
            await self._response(scope, receive, send)


async def _passed(request: Request, deps: Deps, path: str, body: Body) -> Response:
    """Send a request on when it gets a slot. Raises Problem."""
    deps.calls.check(request.state.owner)
    async with AsyncExitStack() as stack:

        async def call() -> UpstreamResponse:
            await stack.enter_async_context(deps.calls.slot(request.state.owner))
            return await deps.upstream.pass_through(body, path)

        response = await while_connected(request.receive, call())
        if response is None:
            return Response(status_code=499)  # the client has left
        count = counter_of(request, deps, path, body, response)
        if response.body is not None:
            if count is not None and (tokens := read_tokens(response.body)) is not None:
                count(tokens)
            response.close()  # from here on, `api.large_responses` counts the response
            return Response(response.body, response.status, response.headers, response.content_type)
        blocks = response.blocks() if count is None else counted_blocks(response.blocks(), count)
        stream = ByteStream(blocks, response.close, response.content_type, response.status, response.headers)
        return _Holding(stream, stack.pop_all())


def _endpoint(entry: Forwarded) -> Callable[[Request, Deps], Awaitable[Response]]:
    async def passed_on(request: Request, deps: InjectedDeps) -> Response:
        kind = _FORM if is_form(request.headers) else _JSON
        if kind not in entry.takes:
            sent = request.headers.get("content-type", "")
            raise UnsupportedMedia(f"Unsupported content type '{truncated(sent)}'. Send '{entry.takes[0]}'.")
        return await (_forward_form if kind == _FORM else forward_json)(request, deps, entry.path)

    passed_on.__doc__ = f"{entry.about} If the client disconnects, the upstream request ends."
    return passed_on


def _body(entry: Forwarded) -> dict[str, object]:
    content = {kind: {"schema": {"type": "object"}} for kind in entry.takes}
    return {"requestBody": {"required": True, "content": content}}


for _entry in FORWARDED:
    router.add_api_route(
        _entry.path, _endpoint(_entry), methods=["POST"], name=_entry.name, openapi_extra=_body(_entry)
    )
