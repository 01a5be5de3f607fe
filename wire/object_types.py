"""The types of assistants, threads, messages, runs and run steps, by the value of `object`."""

from collections.abc import Mapping
from typing import Final

from wire.assistants import Assistant
from wire.messages import Message
from wire.runs import Run
from wire.steps import RunStep
from wire.threads import Thread

__all__ = ["OBJECT_TYPES"]

OBJECT_TYPES: Final[Mapping[str, type]] = {
    "assistant": Assistant,
    "thread": Thread,
    "thread.message": Message,
    "thread.run": Run,
    "thread.run.step": RunStep,
}
