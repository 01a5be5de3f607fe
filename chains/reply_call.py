"""One model call as a value, for every backend."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from langchain_core.messages import AIMessageChunk, BaseMessage

from chains.chat_types import FunctionTool, NamedFunction, ResponseFormat
from wire.model_options import NO_OPTIONS, ModelOptions

__all__ = ["Ask", "ReplyCall"]


@dataclass(frozen=True, slots=True)
class ReplyCall:
    """The call's fields. None means that the field is not sent. `tools` are OpenAI's function tools."""

    model: str
    """The name as the run has it; the backend resolves it."""

    messages: list[BaseMessage]
    tools: list[FunctionTool] = field(default_factory=list)
    tool_choice: str | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    response_format: str | ResponseFormat | None = None
    options: ModelOptions = NO_OPTIONS
    max_tokens: int | None = None
    lenient: frozenset[str] = frozenset()
    """Functions whose calls are yielded unchanged if they do not match the schema after one repair."""
    together: bool = False
    """Whether texts of one read can be yielded as one chunk, whose content is a list of them."""


Ask: TypeAlias = Callable[[ReplyCall], AsyncGenerator[AIMessageChunk]]
"""Makes one request and yields its chunks; closing the generator closes the request. Raises RunError."""
