"""The types of the official SDK for the API's objects, by the value of `object` (deltas by the event's)."""

from openai.types import FileObject, Model, VectorStore
from openai.types.beta import Assistant, Thread
from openai.types.beta.threads import Message, MessageDeltaEvent, Run
from openai.types.beta.threads.runs import RunStep, RunStepDeltaEvent
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch
from pydantic import BaseModel

__all__ = ["SDK_TYPES", "UNDECLARED"]

SDK_TYPES: dict[str, type[BaseModel]] = {
    "assistant": Assistant,
    "thread": Thread,
    "thread.message": Message,
    "thread.message.delta": MessageDeltaEvent,
    "thread.run": Run,
    "thread.run.step": RunStep,
    "thread.run.step.delta": RunStepDeltaEvent,
    "vector_store": VectorStore,
    "vector_store.file": VectorStoreFile,
    "vector_store.files_batch": VectorStoreFileBatch,
    "file": FileObject,
    "model": Model,
}
UNDECLARED: dict[str, set[str]] = {
    "assistant": {"reasoning_effort"},
    "thread.run": {"reasoning_effort", "tool_resources"},
    "thread.run.step": {"expires_at"},
    "vector_store": {"description"},  # of the request, repeated in the object
}
"""Fields that OpenAI's objects have and its SDK does not declare."""
