"""Builds chunks with tool calls without LangChain's parsing of their arguments.

The constructor of `AIMessageChunk` parses the arguments as possibly incomplete JSON, at each construction and each
addition. This takes quadratic time if they are not JSON: 40 KB take 15 s. Adding many chunks one by one is quadratic,
too, because each addition copies all the text so far.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk

__all__ = ["ChunkSum", "chunk_of_calls", "sum_chunks", "with_calls"]

_EMPTY: Final = AIMessageChunk(content="")
_TOGETHER: Final = 32
"""Number of chunks that are added at once."""


def chunk_of_calls(
    calls: Sequence[ToolCallChunk], *, content: object = "", additional_kwargs: Mapping[str, object] | None = None
) -> AIMessageChunk:
    """Return a chunk of fragments of calls, with their arguments unparsed."""
    fresh = {"content": content, "additional_kwargs": additional_kwargs or {}, "response_metadata": {}}
    return with_calls(_EMPTY.model_copy(update=fresh), calls)


def with_calls(chunk: AIMessageChunk, calls: Sequence[ToolCallChunk]) -> AIMessageChunk:
    """Return a copy of a chunk with these fragments of calls, with their arguments unparsed."""
    return chunk.model_copy(update={"tool_calls": [], "invalid_tool_calls": [], "tool_call_chunks": list(calls)})


def sum_chunks(chunks: Sequence[AIMessageChunk]) -> AIMessageChunk:
    """Return the sum of one or more chunks. Raises what LangChain raises for chunks that it cannot add."""
    while len(chunks) > 1:
        groups = [chunks[start : start + _TOGETHER] for start in range(0, len(chunks), _TOGETHER)]
        chunks = [add_ai_message_chunks(group[0], *group[1:]) for group in groups]
    return chunks[0]


class ChunkSum:
    """Combines the chunks of one answer."""

    def __init__(self) -> None:
        self._sums: list[list[AIMessageChunk]] = [[]]
        """Sums of one chunk each, of `_TOGETHER` chunks each, and so on; each list is short."""
        self._calls: dict[int | None, ToolCallChunk] = {}
        self._arguments: dict[int | None, list[str]] = {}

    def add(self, chunk: AIMessageChunk) -> None:
        """Add the next chunk."""
        for call in chunk.tool_call_chunks:
            index = call.get("index")
            known = self._calls.setdefault(index, tool_call_chunk(name=None, args=None, id=None, index=index))
            known["name"] = known["name"] or call.get("name")
            known["id"] = known["id"] or call.get("id")
            self._arguments.setdefault(index, []).append(call.get("args") or "")
        self._add_without_calls(with_calls(chunk, ()))

    def _add_without_calls(self, chunk: AIMessageChunk) -> None:
        for level in self._sums:
            level.append(chunk)
            if len(level) < _TOGETHER:
                return
            chunk = sum_chunks(level)
            level.clear()
        self._sums.append([chunk])

    def chunk(self) -> AIMessageChunk:
        """Return the combined chunk."""
        for index, call in self._calls.items():
            call["args"] = "".join(self._arguments[index])
        found = [_EMPTY, *(chunk for level in reversed(self._sums) for chunk in level)]
        return with_calls(sum_chunks(found), list(self._calls.values()))
