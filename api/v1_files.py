"""The v1 routes for files of an assistant and of a message."""

import time
from collections.abc import Mapping

from fastapi import Response

from api.assistants import update_assistant
from api.body_route import BodyRoute
from api.depends import AssistantId, Deps, FileId, InjectedDeps, Listing, MessageId, Owner, ThreadId, get_or_404
from api.json_response import json_response
from api.routers import api_router
from retrieval.assistant_files import files_of, store_of
from retrieval.vector_store_drafts import store_file_row
from store.ports import Change, Delete, Patch, Row, store_file_id
from wire.assistants import AssistantModify
from wire.errors import InvalidRequest, NotFound
from wire.json import JsonObject
from wire.pages import Deletion, ListBody, ListQuery, deletion, list_envelope
from wire.pages import Listing as ListOf
from wire.v1 import AssistantFile, AssistantFileCreate, MessageFile, file_object
from wire.validation import parse
from wire.vector_stores import NewStoreFile

__all__ = ["router"]

router = api_router("v1", BodyRoute)

_MAX_FILES = 20


@router.post("/assistants/{assistant_id}/files", response_model=AssistantFile)
async def add_assistant_file(
    assistant_id: AssistantId, body: AssistantFileCreate, deps: InjectedDeps, owner: Owner
) -> Response:
    """Add a file to an assistant."""
    async with deps.store.for_update():
        row = await get_or_404(deps, "assistant", assistant_id, owner)
        files = files_of(row)
        if body.file_id not in files and len(files) >= _MAX_FILES:
            raise InvalidRequest(f"The assistant has {len(files)} files; at most {_MAX_FILES} are allowed.")
        now, store_id = int(time.time()), store_of(row)
        files.setdefault(body.file_id, now)
        if store_id is None:
            await update_assistant(deps, row, parse(AssistantModify, {"file_ids": list(files)}))
        else:
            file = store_file_row(owner, store_id, NewStoreFile(file_id=body.file_id), now=now)
            await deps.ingestion.add(owner, [file], *_file_changes(row, files))
        return json_response(file_object(body.file_id, files[body.file_id], assistant_id=assistant_id))


@router.get("/assistants/{assistant_id}/files", response_model=ListOf[AssistantFile])
async def list_assistant_files(assistant_id: AssistantId, query: Listing, deps: InjectedDeps, owner: Owner) -> Response:
    """List an assistant's files."""
    files = files_of(await get_or_404(deps, "assistant", assistant_id, owner))
    return json_response(_page(files, query, assistant_id=assistant_id))


@router.get("/assistants/{assistant_id}/files/{file_id}", response_model=AssistantFile)
async def get_assistant_file(assistant_id: AssistantId, file_id: FileId, deps: InjectedDeps, owner: Owner) -> Response:
    """Read one of an assistant's files."""
    files = files_of(await get_or_404(deps, "assistant", assistant_id, owner))
    return json_response(_file_or_404(files, file_id, assistant_id=assistant_id))


@router.delete("/assistants/{assistant_id}/files/{file_id}", response_model=Deletion)
async def remove_assistant_file(
    assistant_id: AssistantId, file_id: FileId, deps: InjectedDeps, owner: Owner
) -> Response:
    """Remove a file from an assistant; the file itself is kept."""
    async with deps.store.for_update():
        row = await get_or_404(deps, "assistant", assistant_id, owner)
        files = files_of(row)
        _file_or_404(files, file_id, assistant_id=assistant_id)
        del files[file_id]
        if (store_id := store_of(row)) is not None:
            gone = Delete("vector_store_file", store_file_id(store_id, file_id), owner, if_exists=True)
            await deps.ingestion.add(owner, [], gone, *_file_changes(row, files))
        else:
            await update_assistant(deps, row, parse(AssistantModify, {"file_ids": list(files)}))
        return json_response(deletion(file_id, "assistant.file"))


@router.get("/threads/{thread_id}/messages/{message_id}/files", response_model=ListOf[MessageFile])
async def list_message_files(
    thread_id: ThreadId, message_id: MessageId, query: Listing, deps: InjectedDeps, owner: Owner
) -> Response:
    """List a message's files."""
    return json_response(_page(await _attached(deps, owner, thread_id, message_id), query, message_id=message_id))


@router.get("/threads/{thread_id}/messages/{message_id}/files/{file_id}", response_model=MessageFile)
async def get_message_file(
    thread_id: ThreadId, message_id: MessageId, file_id: FileId, deps: InjectedDeps, owner: Owner
) -> Response:
    """Read one of a message's files."""
    files = await _attached(deps, owner, thread_id, message_id)
    return json_response(_file_or_404(files, file_id, message_id=message_id))


def _file_changes(row: Row, files: Mapping[str, int]) -> list[Change]:
    """Return the changes of the assistant's row that set its files; changes of its vector store are separate."""
    body = {}
    if "code_interpreter" in row.body["tool_resources"]:
        resources = {**row.body["tool_resources"], "code_interpreter": {"file_ids": list(files)}}
        body = {"tool_resources": resources}
    return [Patch("assistant", row.id, row.owner, body, {"v1_files": dict(files)})]


async def _attached(deps: Deps, owner: str, thread_id: str, message_id: str) -> dict[str, int]:
    body = (await get_or_404(deps, "message", message_id, owner, thread_id=thread_id)).body
    return {attachment["file_id"]: body["created_at"] for attachment in body["attachments"]}


def _file_or_404(files: Mapping[str, int], file_id: str, **holder: str) -> JsonObject:
    if file_id not in files:
        raise NotFound(f"No file found with id '{file_id}'.")
    return file_object(file_id, files[file_id], **holder)


def _page(files: Mapping[str, int], query: ListQuery, **holder: str) -> ListBody:
    ids = list(files) if query.order == "asc" else list(files)[::-1]
    for param, cursor in (("after", query.after), ("before", query.before)):
        if cursor and cursor not in ids:
            raise InvalidRequest(f"No file found with id '{cursor}'.", param=param)
    start = ids.index(query.after) + 1 if query.after else 0
    end = ids.index(query.before) if query.before else len(ids)
    if query.before and not query.after:
        start = max(0, end - query.limit)
    shown = ids[start:end][: query.limit]
    has_more = bool(shown) and shown[-1] != ids[-1]
    return list_envelope([file_object(id, files[id], **holder) for id in shown], has_more)
