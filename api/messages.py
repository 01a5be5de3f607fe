"""Messages of a thread: add, list, read, change metadata, delete."""

import time
from contextlib import suppress
from typing import Annotated, Final

from fastapi import Query, Response

from api.body_route import BodyRoute
from api.depends import V1, InjectedDeps, Listing, MessageId, Owner, ThreadId, get_or_404, list_rows
from api.hot_routes import HotEndpoint
from api.json_response import json_response
from api.routers import api_router
from graphs.drafts import message_rows
from store.ports import Delete, Insert, Patch, RequireNoActiveRun
from wire.errors import InvalidRequest, StaleRow, ThreadBusy
from wire.messages import Message, MessageCreate, MessageModify
from wire.pages import Deletion, deletion
from wire.pages import Listing as ListOf
from wire.validation import check_id

__all__ = ["HOT_ENDPOINTS", "router"]

_TRIES: Final = 20
"""How often a message with attachments is added again because the thread's resources were changed meanwhile."""

router = api_router("messages", BodyRoute)


async def create_message(
    thread_id: ThreadId, body: MessageCreate, deps: InjectedDeps, owner: Owner, v1: V1
) -> Response:
    """Add a message. This is refused while the thread has an active run."""
    (row,) = message_rows((body,), owner, thread_id, now=int(time.time()))
    try:
        for _ in range(_TRIES):
            with suppress(StaleRow):
                async with deps.attachments.of_messages(owner, thread_id, (row,)) as attached:
                    await deps.store.commit(
                        [RequireNoActiveRun(thread_id, owner), *attached, Insert(row)], durable=True
                    )
                return json_response(row.body, v1=v1)
    except ThreadBusy as busy:
        message = f"Can't add messages to {thread_id} while a run {busy.run_id} is active."
        raise InvalidRequest(message) from busy
    raise InvalidRequest(f"The resources of {thread_id} are changing at the moment. Try again.")


HOT_ENDPOINTS = (HotEndpoint("/threads/{thread_id}/messages", "messages", create_message, Message),)
"""The most frequent requests, which `api.app` registers first."""


@router.get("/threads/{thread_id}/messages", response_model=ListOf[Message])
async def list_messages(
    thread_id: ThreadId,
    query: Listing,
    deps: InjectedDeps,
    owner: Owner,
    v1: V1,
    run_id: Annotated[str | None, Query()] = None,
) -> Response:
    """List messages, newest first; with `run_id`, only those that the run created."""
    await get_or_404(deps, "thread", thread_id, owner)
    if run_id:
        check_id("run_id", run_id, "run")
    page = await list_rows(deps, "message", owner, query, thread_id=thread_id, run_id=run_id or None)
    return json_response(page, v1=v1)


@router.get("/threads/{thread_id}/messages/{message_id}", response_model=Message)
async def get_message(thread_id: ThreadId, message_id: MessageId, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """Read a message."""
    return json_response((await get_or_404(deps, "message", message_id, owner, thread_id=thread_id)).body, v1=v1)


@router.post("/threads/{thread_id}/messages/{message_id}", response_model=Message)
async def modify_message(
    thread_id: ThreadId, message_id: MessageId, body: MessageModify, deps: InjectedDeps, owner: Owner, v1: V1
) -> Response:
    """Replace a message's metadata."""
    async with deps.store.for_update():
        row = await get_or_404(deps, "message", message_id, owner, thread_id=thread_id)
        if "metadata" in body.model_fields_set:
            change = Patch("message", message_id, owner, {"metadata": body.metadata or {}})
            (changed,) = await deps.store.commit([change], durable=True)
            if changed.run_id is not None:
                deps.runner.note_message(changed.run_id, message_id, changed.body["metadata"])
            return json_response(changed.body, v1=v1)
        return json_response(row.body, v1=v1)


@router.delete("/threads/{thread_id}/messages/{message_id}", response_model=Deletion)
async def delete_message(thread_id: ThreadId, message_id: MessageId, deps: InjectedDeps, owner: Owner) -> Response:
    """Delete a message."""
    await get_or_404(deps, "message", message_id, owner, thread_id=thread_id)
    await deps.store.commit([Delete("message", message_id, owner)], durable=True)
    return json_response(deletion(message_id, "thread.message"))
