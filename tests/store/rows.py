"""Small rows for the store's tests, with only the fields that the store reads."""

from typing import Any

from store.ports import Append, CheckpointKey, CheckpointWrite, Insert, Row, Store, StoredCheckpoint, store_file_id
from wire.events import Event, encode
from wire.ids import new_id
from wire.status import ACTIVE


def assistant(owner: str = "ann", **body: Any) -> Row:
    id = new_id("asst")
    return Row("assistant", id, owner, {"id": id, "object": "assistant", **body})


def thread(owner: str = "ann", **body: Any) -> Row:
    id = new_id("thread")
    return Row("thread", id, owner, {"id": id, "object": "thread", "metadata": {}, **body})


def message(of: Row, *, run_id: str | None = None, owner: str | None = None, **body: Any) -> Row:
    id = new_id("msg")
    whole = {"id": id, "object": "thread.message", "thread_id": of.id, "status": "completed", **body}
    return Row("message", id, owner or of.owner, whole, thread_id=of.id, run_id=run_id)


def run(of: Row, status: str = "queued", *, owner: str | None = None, **body: Any) -> Row:
    id = new_id("run")
    whole = {"id": id, "object": "thread.run", "thread_id": of.id, "status": status, "expires_at": 1000, **body}
    return Row("run", id, owner or of.owner, whole, thread_id=of.id)


def step(of: Row, **body: Any) -> Row:
    id = new_id("step")
    whole = {"id": id, "object": "thread.run.step", "run_id": of.id, "status": "in_progress", **body}
    return Row("step", id, of.owner, whole, thread_id=of.thread_id, run_id=of.id)


def item(of: Row, *, run_id: str | None = None, owner: str | None = None, **body: Any) -> Row:
    id = new_id("fc")
    whole = {"id": id, "type": "function_call", "status": "completed", **body}
    return Row("item", id, owner or of.owner, whole, thread_id=of.id, run_id=run_id)


def file(owner: str = "ann", **body: Any) -> Row:
    id = new_id("file")
    return Row("file", id, owner, {"id": id, "object": "file", "purpose": "assistants", **body})


def vector_store(owner: str = "ann", **body: Any) -> Row:
    id = new_id("vs")
    return Row("vector_store", id, owner, {"id": id, "object": "vector_store", "status": "completed", **body})


def file_batch(of: Row) -> Row:
    id = new_id("vsfb")
    return Row("file_batch", id, of.owner, {"id": id, "object": "vector_store.files_batch"}, vector_store_id=of.id)


def upload(owner: str = "ann", *parts: str, **body: Any) -> Row:
    id = new_id("upload")
    whole = {"id": id, "object": "upload", "status": "pending", "expires_at": 1000, **body}
    return Row("upload", id, owner, whole, private={"parts": dict.fromkeys(parts, 1)})


def store_file(
    of: Row, file: Row, batch: Row | None = None, *, status: str = "in_progress", usage_bytes: int = 0
) -> Row:
    body = {"id": file.id, "object": "vector_store.file", "status": status, "usage_bytes": usage_bytes}
    at = {"vector_store_id": of.id, "batch_id": batch.id if batch else None, "file_id": file.id}
    return Row("vector_store_file", store_file_id(of.id, file.id), of.owner, body, **at)  # type: ignore[arg-type]


def event(number: int, name: str = "thread.message.delta", id: str = "msg_1", **data: Any) -> Event:
    return Event(number, name, encode({"id": id, **data}))


async def put(store: Store, *rows: Row) -> list[Row]:
    """Insert rows in one commit."""
    return await store.commit([Insert(row) for row in rows], durable=False)


async def put_run(store: Store, status: str = "queued", *, events: int = 0) -> tuple[Row, Row]:
    """Insert a thread with a run, and some events in its log."""
    of = thread()
    made = run(of, status)
    log = [event(number) for number in range(events)]
    await store.commit([Insert(of), Insert(made), Append(made.id, log)], durable=False)
    return of, made


ENDED = ("completed", "incomplete", "failed", "cancelled", "expired")
STATUSES = (*sorted(ACTIVE), *ENDED)


def checkpoint(run_id: str, id: str, state: bytes = b"{}") -> StoredCheckpoint:
    return StoredCheckpoint(CheckpointKey(run_id, "", id), None, ("json", state), ("json", b"{}"))


def checkpoint_write(value: bytes = b"1", *, task_id: str = "task", index: int = 0) -> CheckpointWrite:
    return CheckpointWrite(task_id, "", index, "exchange", ("json", value))
