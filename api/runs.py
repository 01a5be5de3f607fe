"""Runs: start, create-and-run, read, change metadata, submit outputs, cancel; and the replay of their events."""

from typing import Annotated

from fastapi import Header, Query, Response

from api.body_route import BodyRoute
from api.depends import (
    V1,
    Deps,
    Extensions,
    Include,
    InjectedDeps,
    Listing,
    Owner,
    RunId,
    ThreadId,
    get_or_404,
    list_rows,
)
from api.hot_routes import HotEndpoint
from api.json_response import json_response, not_offered
from api.routers import api_router
from api.sse import EventStream
from graphs.drafts import RunChoices
from graphs.runner import StartedRun
from wire.errors import InvalidRequest
from wire.pages import Listing as ListOf
from wire.runs import Run, RunCreate, RunModify, SubmitToolOutputs, ThreadRunCreate
from wire.status import ACTIVE
from wire.validation import check_id, truncated

__all__ = ["HOT_ENDPOINTS", "router"]

router = api_router("runs", BodyRoute)

_POLL_AFTER_MS = "250"
"""How soon a client should poll again; without it, Node's SDK waits five seconds."""

_STREAM: dict[int | str, dict[str, object]] = {
    200: {"description": "The run, or its events when `stream` is true", "content": {"text/event-stream": {}}}
}

_NUMBER: dict[str, object] = {"pattern": "^[0-9]{0,18}$"}


async def create_thread_and_run(
    body: ThreadRunCreate, deps: InjectedDeps, owner: Owner, v1: V1, extensions: Extensions, _: Include
) -> Response:
    """Create a thread and start a run on it."""
    check_id("assistant_id", body.assistant_id, "asst")
    started = await deps.runner.create_and_start(owner, body)
    return _started(deps, started, stream=body.stream, v1=v1, extensions=extensions)


async def create_run(
    thread_id: ThreadId,
    body: RunCreate,
    deps: InjectedDeps,
    owner: Owner,
    v1: V1,
    extensions: Extensions,
    contents: Include,
) -> Response:
    """Start a run."""
    check_id("assistant_id", body.assistant_id, "asst")
    started = await deps.runner.start(owner, thread_id, body, RunChoices(contents))
    return _started(deps, started, stream=body.stream, v1=v1, extensions=extensions)


HOT_ENDPOINTS = (
    HotEndpoint("/threads/runs", "runs", create_thread_and_run, Run, _STREAM),
    HotEndpoint("/threads/{thread_id}/runs", "runs", create_run, Run, _STREAM),
)
"""The most frequent requests, which `api.app` registers first."""


@router.get("/threads/{thread_id}/runs", response_model=ListOf[Run])
async def list_runs(
    thread_id: ThreadId, query: Listing, deps: InjectedDeps, owner: Owner, v1: V1, extensions: Extensions
) -> Response:
    """List runs, newest first."""
    await get_or_404(deps, "thread", thread_id, owner)
    return json_response(await list_rows(deps, "run", owner, query, thread_id=thread_id), v1=v1, extensions=extensions)


@router.get("/threads/{thread_id}/runs/{run_id}", response_model=Run)
async def get_run(
    thread_id: ThreadId, run_id: RunId, deps: InjectedDeps, owner: Owner, v1: V1, extensions: Extensions
) -> Response:
    """Read a run."""
    run = await get_or_404(deps, "run", run_id, owner, thread_id=thread_id)
    return _run(run.body, v1=v1, extensions=extensions)


@router.post("/threads/{thread_id}/runs/{run_id}", response_model=Run)
async def modify_run(
    thread_id: ThreadId,
    run_id: RunId,
    body: RunModify,
    deps: InjectedDeps,
    owner: Owner,
    v1: V1,
    extensions: Extensions,
) -> Response:
    """Replace a run's metadata."""
    if "metadata" not in body.model_fields_set:
        return await get_run(thread_id, run_id, deps, owner, v1, extensions)
    async with deps.store.for_update():
        changed = await deps.runner.update_metadata(owner, thread_id, run_id, body.metadata or {})
        return _run(changed, v1=v1, extensions=extensions)


@router.post("/threads/{thread_id}/runs/{run_id}/cancel", response_model=Run)
async def cancel_run(
    thread_id: ThreadId, run_id: RunId, deps: InjectedDeps, owner: Owner, v1: V1, extensions: Extensions
) -> Response:
    """Cancel a run and its upstream request."""
    async with deps.store.for_update():
        return _run(await deps.runner.cancel(owner, thread_id, run_id), v1=v1, extensions=extensions)


@router.post("/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", response_model=Run, responses=_STREAM)
async def submit_tool_outputs(
    thread_id: ThreadId,
    run_id: RunId,
    body: SubmitToolOutputs,
    deps: InjectedDeps,
    owner: Owner,
    v1: V1,
    extensions: Extensions,
) -> Response:
    """Submit all outputs that a run waits for."""
    async with deps.store.for_update():
        started = await deps.runner.submit(owner, thread_id, run_id, body.given())
        return _started(deps, started, stream=body.stream, v1=v1, extensions=extensions)


@router.get(
    "/threads/{thread_id}/runs/{run_id}/events",
    response_class=Response,
    responses={200: {"description": "Events from a number on, then live", "content": {"text/event-stream": {}}}},
)
async def follow_events(
    thread_id: ThreadId,
    run_id: RunId,
    deps: InjectedDeps,
    owner: Owner,
    v1: V1,
    after: Annotated[int | None, Query(ge=-1)] = None,
    last_event_id: Annotated[str | None, Header(json_schema_extra=_NUMBER)] = None,
) -> Response:
    """Replay a run's events with numbers above `after` (or `Last-Event-ID`), then follow live (an extension).

    The stream ends when the run has paused or ended and everything was sent. It always includes the events and fields
    that OpenAI's API does not have.
    """
    await get_or_404(deps, "run", run_id, owner, thread_id=thread_id)
    seen = _number(last_event_id)
    events = deps.runner.follow(run_id, after=min(seen if after is None else after, 2**62))
    return EventStream(events, v1=v1, extensions=True)


def _number(last_event_id: str | None) -> int:
    if not last_event_id:
        return -1
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
        message = f"Invalid 'Last-Event-ID': '{truncated(last_event_id)}'. Expected the number of an event."
        raise InvalidRequest(message, param="Last-Event-ID", code="invalid_value")
    return int(last_event_id)


def _started(deps: Deps, started: StartedRun, *, stream: bool | None, v1: bool, extensions: bool) -> Response:
    if stream:
        batches = deps.runner.follow(started.run_id, after=started.after)
        events = EventStream(batches, v1=v1, extensions=extensions)
        events.headers.update(not_offered(started.run))
        return events
    return _run(started.run, v1=v1, extensions=extensions)


def _run(body: Run, *, v1: bool, extensions: bool) -> Response:
    headers = {"openai-poll-after-ms": _POLL_AFTER_MS} if body["status"] in ACTIVE else None
    return json_response(body, v1=v1, extensions=extensions, headers=headers)
