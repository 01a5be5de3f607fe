"""Assistant turns of LangChain models, sent back in the form in which their own library made them.

Anthropic requires its thinking blocks back, with unchanged signatures and order, before the outputs of the calls that
follow them. Google's library keeps signatures in `additional_kwargs`. The invariants of `chains.extra_fields` apply.
"""

from collections.abc import Sequence
from typing import Final

import orjson
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from chains.call_chunks import sum_chunks
from chains.extra_fields import engine_id, extra_fields, serialize_fields

__all__ = ["NativeReply", "restore_native_replies"]

_CALLS: Final = ("tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta")
_KNOWN_ADDITIONAL: Final = ("tool_calls", "function_call", "refusal")
_MAX_WORK: Final = 2_000_000
"""Maximum product of content pieces and their blocks: for each piece, LangChain searches all blocks."""


class NativeReply:
    """One streamed reply as the sum of its library's chunks. `source` and `model` name the engine."""

    def __init__(self, source: str, model: str) -> None:
        self._source = engine_id(source, model)
        self._model = model
        self._chunks: list[AIMessageChunk] = []

    def add(self, chunk: AIMessageChunk) -> None:
        """Add a chunk before it is converted."""
        self._chunks.append(chunk)

    def to_json(self) -> str:
        """Return the reply as JSON text; empty if it has only text and calls, or cannot be kept."""
        pieces = [
            AIMessageChunk(content=chunk.content, additional_kwargs=chunk.additional_kwargs)
            for chunk in self._chunks
            if chunk.content or chunk.additional_kwargs
        ]
        if not any(isinstance(piece.content, list) or piece.additional_kwargs for piece in pieces):
            return ""
        if _work(pieces) > _MAX_WORK:
            return ""
        try:
            whole = sum_chunks(pieces)
        except (TypeError, ValueError):  # chunks of a library that LangChain cannot add
            return ""
        blocks = [block for block in whole.content if block] if isinstance(whole.content, list) else []
        additional = {name: value for name, value in whole.additional_kwargs.items() if name not in _KNOWN_ADDITIONAL}
        if not additional and all(isinstance(block, str) or block.get("type") in ("text", *_CALLS) for block in blocks):
            return ""
        return serialize_fields({"source": self._source, "content": blocks, "beside": additional}, self._model) or ""


def _work(pieces: list[AIMessageChunk]) -> int:
    """Estimate how many blocks of content LangChain compares to add these chunks."""
    parts = [part for piece in pieces if isinstance(piece.content, list) for part in piece.content]
    indexes = [part.get("index") if isinstance(part, dict) else None for part in parts]
    return len(parts) * (indexes.count(None) + len({repr(index) for index in indexes}))


def restore_native_replies(messages: Sequence[BaseMessage], source: str, model: str) -> list[BaseMessage]:
    """Return the messages with this engine's turns in their original form; other messages are unchanged or lose
    their kept fields."""
    return [_restored(message, engine_id(source, model)) for message in messages]


def _restored(message: BaseMessage, source: str) -> BaseMessage:
    text = extra_fields(message)
    if not text or not isinstance(message, AIMessage):
        return message
    kept = orjson.loads(text)
    if kept["source"] != source or "content" not in kept:
        return AIMessage(message.content, tool_calls=message.tool_calls)
    ids = {call["id"] for call in message.tool_calls}
    blocks: list[str | dict[str, object]] = [
        block for block in kept["content"] if not _is_call(block) or block.get("id") in ids
    ]
    return AIMessage(blocks or message.content, tool_calls=message.tool_calls, additional_kwargs=kept["beside"])


def _is_call(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") in _CALLS
