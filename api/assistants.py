"""Assistants: create, read, change, delete."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Response

from api.answers import answer
from api.depends import V1, AssistantId, Listing, Owner, Parts, list_rows, must_get
from graphs.tools.toolset import build_toolset
from store.ports import Delete, Insert, Patch, Row
from wire.actions import mask_tools, restore_secrets
from wire.assistants import Assistant, AssistantCreate, AssistantModify, amend_assistant, new_assistant
from wire.ids import new_id
from wire.pages import Deletion, deletion
from wire.pages import Listing as ListOf
from wire.sampling import sampling

__all__ = ["check_tools", "router"]

router = APIRouter(tags=["assistants"])


@router.post("/assistants", response_model=Assistant)
async def create_assistant(body: AssistantCreate, house: Parts, owner: Owner, v1: V1) -> Response:
    """Create an assistant."""
    made = new_assistant(body, id=new_id("asst"), now=int(time.time()))
    tools = restore_secrets(made["tools"], [])
    await check_tools(tools)
    private = {"tools": tools, "sampling": sampling(body)}
    row = Row("assistant", made["id"], owner, {**made, "tools": mask_tools(tools)}, private=private)
    await house.store.commit([Insert(row)], durable=True)
    return answer(row.body, v1=v1)


@router.get("/assistants", response_model=ListOf[Assistant])
async def list_assistants(query: Listing, house: Parts, owner: Owner, v1: V1) -> Response:
    """List assistants, newest first."""
    return answer(await list_rows(house, "assistant", owner, query), v1=v1)


@router.get("/assistants/{assistant_id}", response_model=Assistant)
async def get_assistant(assistant_id: AssistantId, house: Parts, owner: Owner, v1: V1) -> Response:
    """Read an assistant."""
    return answer((await must_get(house, "assistant", assistant_id, owner)).body, v1=v1)


@router.post("/assistants/{assistant_id}", response_model=Assistant)
async def modify_assistant(
    assistant_id: AssistantId, body: AssistantModify, house: Parts, owner: Owner, v1: V1
) -> Response:
    """Change what is given, leave the rest."""
    row = await must_get(house, "assistant", assistant_id, owner)
    changed = amend_assistant(body, row.body)
    private: dict[str, Any] = {}
    if "tools" in changed:
        tools = restore_secrets(changed["tools"], row.private["tools"])
        await check_tools(tools)
        changed["tools"] = mask_tools(tools)
        private["tools"] = tools
    if body.model_fields_set & {"temperature", "top_p"}:
        kept = {name: value for name, value in row.private["sampling"].items() if name not in body.model_fields_set}
        private["sampling"] = kept | sampling(body)
    rows = await house.store.commit([Patch("assistant", assistant_id, owner, changed, private)], durable=True)
    return answer(rows[0].body, v1=v1)


@router.delete("/assistants/{assistant_id}", response_model=Deletion)
async def delete_assistant(assistant_id: AssistantId, house: Parts, owner: Owner) -> Response:
    """Delete an assistant; its runs go on and stay readable."""
    await house.store.commit([Delete("assistant", assistant_id, owner)], durable=True)
    return answer(deletion(assistant_id, "assistant"))


async def check_tools(tools: list[dict[str, Any]]) -> None:
    """Refuse tools that no run could use. OpenAPI documents are read off the event loop. Raises InvalidRequest."""
    if any(tool["type"] == "action" for tool in tools):
        await asyncio.to_thread(build_toolset, tools)
    else:
        build_toolset(tools)
