"""One model call as a value: what is asked for, whoever answers it."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langchain_core.messages import AIMessageChunk, BaseMessage

__all__ = ["Ask", "ReplyCall"]


@dataclass(frozen=True, slots=True)
class ReplyCall:
    """What to ask for. None means: not sent. `tools` are OpenAI's function tools."""

    model: str
    """Any name, as the run has it: it is resolved on the way."""

    messages: list[BaseMessage]
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: str | dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_tokens: int | None = None
    lenient: frozenset[str] = frozenset()
    """Functions whose calls go out as the model made them where they do not fit the schema after one repair."""
    together: bool = False
    """Texts that come in one read may come as one chunk, its content their list."""


Ask: TypeAlias = Callable[[ReplyCall], AsyncGenerator[AIMessageChunk]]
"""Makes one request and yields its chunks; closing the generator closes the request. Raises RunError."""
