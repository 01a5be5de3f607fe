"""Assistants: create, read, change, delete."""

import time
from contextlib import suppress
from typing import cast

from fastapi import Response

from api.body_route import BodyRoute
from api.depends import V1, AssistantId, Deps, InjectedDeps, Listing, Owner, get_or_404
from api.json_response import json_response
from api.routers import api_router
from graphs.tools.schema_checks import check_schemas
from graphs.tools.secrets import restore_changed
from graphs.tools.toolset import make_toolset
from retrieval.assistant_files import files_of, remember, store_of
from store.ports import AssistantPrivate, AssistantRow, Change, Delete, Insert, PageQuery, Patch, Row
from wire.assistants import Assistant, AssistantCreate, AssistantModify, assistant_changes, new_assistant
from wire.errors import MissingRow
from wire.ids import new_id
from wire.model_options import UNSET_SAMPLING, requested_sampling
from wire.pages import Deletion, deletion, list_envelope
from wire.pages import Listing as ListOf
from wire.resources import resources_body
from wire.tool_secrets import mask_tools, restore_secrets

__all__ = ["check_tools", "router", "show_assistant", "update_assistant"]

router = api_router("assistants", BodyRoute)


@router.post("/assistants", response_model=Assistant)
async def create_assistant(body: AssistantCreate, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """Create an assistant."""
    now = int(time.time())
    made = new_assistant(body, id=new_id("asst"), now=now)
    tools = restore_secrets(made["tools"], [])
    await check_tools(tools)
    await check_schemas((), made["response_format"])
    private: AssistantPrivate = {"tools": tools, "sampling": requested_sampling(body)}
    made["tool_resources"], store_changes = await deps.attachments.create_inline_stores(owner, made["tool_resources"])
    if body.file_ids is not None:
        remembered = remember(body.file_ids, store_changes, now=now)
        private["v1_files"], private["v1_store"] = remembered["v1_files"], remembered["v1_store"]
    made["tools"] = mask_tools(tools)
    row = Row("assistant", made["id"], owner, made, private=private)
    await deps.store.commit([*store_changes, Insert(row)], durable=True)
    deps.ingestion.wake()
    return json_response(show_assistant(row, v1=v1), v1=v1)


@router.get("/assistants", response_model=ListOf[Assistant])
async def list_assistants(query: Listing, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """List assistants, newest first."""
    page_query = PageQuery(limit=query.limit, order=query.order, after=query.after or None, before=query.before or None)
    page = await deps.store.page("assistant", owner, page_query)
    return json_response(list_envelope([show_assistant(row, v1=v1) for row in page.rows], page.has_more), v1=v1)


@router.get("/assistants/{assistant_id}", response_model=Assistant)
async def get_assistant(assistant_id: AssistantId, deps: InjectedDeps, owner: Owner, v1: V1) -> Response:
    """Read an assistant."""
    return json_response(show_assistant(await get_or_404(deps, "assistant", assistant_id, owner), v1=v1), v1=v1)


@router.post("/assistants/{assistant_id}", response_model=Assistant)
async def modify_assistant(
    assistant_id: AssistantId, body: AssistantModify, deps: InjectedDeps, owner: Owner, v1: V1
) -> Response:
    """Change the given fields only."""
    async with deps.store.for_update():
        row = await get_or_404(deps, "assistant", assistant_id, owner)
        return json_response(show_assistant(await update_assistant(deps, row, body), v1=v1), v1=v1)


@router.delete("/assistants/{assistant_id}", response_model=Deletion)
async def delete_assistant(assistant_id: AssistantId, deps: InjectedDeps, owner: Owner) -> Response:
    """Delete an assistant. Its runs continue and stay readable. Of its vector stores, only the one that was created for
    `file_ids` is deleted."""
    made = store_of(await get_or_404(deps, "assistant", assistant_id, owner))
    await deps.store.commit([Delete("assistant", assistant_id, owner)], durable=True)
    if made is not None:
        with suppress(MissingRow):
            await deps.ingestion.delete_store(owner, made)
    return json_response(deletion(assistant_id, "assistant"))


def show_assistant(row: AssistantRow, *, v1: bool) -> Assistant:
    """Return the wire object, with `file_ids` for a v1 client."""
    return {**row.body, "file_ids": list(files_of(row))} if v1 else row.body


async def update_assistant(deps: Deps, row: AssistantRow, body: AssistantModify) -> AssistantRow:
    """Change an assistant and return its new row. New `file_ids` delete the store of the earlier ones."""
    now = int(time.time())
    if body.file_ids is not None and _keeps_files(body, row):
        body = body.model_copy(update={"file_ids": None})
    changed = assistant_changes(body, row.body)
    private: dict[str, object] = {}
    store_changes: list[Change] = []
    if "tools" in changed:
        tools = await restore_changed(changed["tools"], row.private["tools"])
        await check_tools(tools)
        changed["tools"] = mask_tools(tools)
        private["tools"] = tools
    if "response_format" in changed:
        await check_schemas((), changed["response_format"])
    if not body.model_fields_set.isdisjoint(UNSET_SAMPLING):
        kept = {name: value for name, value in row.private["sampling"].items() if name not in body.model_fields_set}
        private["sampling"] = kept | requested_sampling(body)
    if "tool_resources" in changed:
        changed["tool_resources"], store_changes = await deps.attachments.create_inline_stores(
            row.owner, changed["tool_resources"]
        )
    if body.file_ids is not None:
        private |= remember(body.file_ids, store_changes, now=now)
    rows = await deps.store.commit(
        [*store_changes, Patch("assistant", row.id, row.owner, changed, private)], durable=True
    )
    changed_row = cast("AssistantRow", rows[-1])  # the row after the Patch of an assistant
    deps.ingestion.wake()
    if (made := store_of(row)) is not None and store_of(changed_row) != made:
        with suppress(MissingRow):
            await deps.ingestion.delete_store(row.owner, made)
    return changed_row


def _keeps_files(body: AssistantModify, row: AssistantRow) -> bool:
    """Return whether a v1 object was sent back with the same files for the same tools; its store is then kept."""
    tools = row.body["tools"] if body.tools is None else [tool.model_dump() for tool in body.tools]
    resources = row.body["tool_resources"]
    return (
        body.file_ids == list(files_of(row))
        and {tool["type"] for tool in tools} == {tool["type"] for tool in row.body["tools"]}
        and ("tool_resources" not in body.model_fields_set or resources_body(body.tool_resources) == resources)
    )


async def check_tools(tools: list[dict[str, object]]) -> None:
    """Check that runs can use the tools. Raises Problem."""
    await make_toolset(tools)
    await check_schemas(tools)
