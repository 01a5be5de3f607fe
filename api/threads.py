"""Threads: create (with messages), read, change, delete; and the list of them, which is an extension."""

import time

from fastapi import Response

from api.body_route import BodyRoute
from api.depends import V1, InjectedDeps, Listing, Owner, ThreadId, get_or_404, list_rows
from api.hot_routes import HotEndpoint
from api.json_response import json_response
from api.routers import api_router
from graphs.drafts import message_rows
from retrieval.vector_store_drafts import create_inline_stores
from store.ports import Insert, Patch, Row
from wire.ids import new_id
from wire.pages import Deletion, deletion
from wire.pages import Listing as ListOf
from wire.threads import Thread, ThreadCreate, ThreadModify, new_thread, thread_changes

__all__ = ["HOT_ENDPOINTS", "router"]

router = api_router("threads", BodyRoute)


async def create_thread(body: ThreadCreate, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """Create a thread and its messages, all in one commit."""
    now = int(time.time())
    made = new_thread(body, id=new_id("thread"), now=now)
    thread = Row("thread", made["id"], owner, made)
    messages = message_rows(body.messages or (), owner, made["id"], now=now)
    async with deps.attachments.of_new_thread(thread, messages) as attached:
        await deps.store.commit([*attached, Insert(thread), *(Insert(row) for row in messages)], durable=True)
    return json_response(made, v1=v1)


HOT_ENDPOINTS = (HotEndpoint("/threads", "threads", create_thread, Thread),)
"""The most frequent requests, which `api.app` registers first."""


@router.get("/threads", response_model=ListOf[Thread])
async def list_threads(query: Listing, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """List this owner's threads, newest first (an extension). A thread's title is its `metadata.title`."""
    return json_response(await list_rows(deps, "thread", owner, query), v1=v1)


@router.get("/threads/{thread_id}", response_model=Thread)
async def get_thread(thread_id: ThreadId, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """Read a thread."""
    return json_response((await get_or_404(deps, "thread", thread_id, owner)).body, v1=v1)


@router.post("/threads/{thread_id}", response_model=Thread)
async def modify_thread(thread_id: ThreadId, body: ThreadModify, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """Change the given fields only."""
    changed = thread_changes(body)
    _, checks = create_inline_stores(owner, changed.get("tool_resources", {}), now=int(time.time()))
    rows = await deps.store.commit([*checks, Patch("thread", thread_id, owner, changed)], durable=True)
    return json_response(rows[0].body, v1=v1)


@router.delete("/threads/{thread_id}", response_model=Deletion)
async def delete_thread(thread_id: ThreadId, deps: InjectedDeps, owner: Owner) -> Response:
    """Delete a thread and everything in it; its active run is stopped."""
    await deps.runner.delete_thread(owner, thread_id)
    return json_response(deletion(thread_id, "thread"))
