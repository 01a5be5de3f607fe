"""Estimates, as an upper bound, the memory of an executing run: its history, pictures, prompt and exchange.

Each text exists several times: in the history, in LangChain's messages, and in the encoded request. A non-ASCII text
also keeps its UTF-8 form. A text takes up to 3.8 times its size, and a picture once or twice its size.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["UNKNOWN_BYTES", "exchange_memory", "history_memory", "object_memory", "picture_memory"]

UNKNOWN_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are counted for a run until its history has been read."""

_TEXT_COPIES: Final = 4
_CHAR_BYTES: Final = 4
"""A character has one, two or four bytes in memory; `sys.getsizeof` also counts the UTF-8 form once it exists."""

_PICTURE_COPIES: Final = 2
_OBJECT_COPIES: Final = 6
_PART_BYTES: Final = 1024
_MESSAGE_BYTES: Final = 4 * 1024


def history_memory(messages: Iterable[Mapping[str, Any]]) -> int:
    """Return the bytes that wire messages take, without the pictures that they name by file."""
    size = 0
    for message in messages:
        size += _MESSAGE_BYTES
        for part in message["content"]:
            text = part.get("text") or part.get("refusal") or ""
            if not isinstance(text, str):
                size += _PART_BYTES * len(text.get("annotations") or ())
                text = text["value"]
            size += _PART_BYTES + _TEXT_COPIES * min(sys.getsizeof(text), _CHAR_BYTES * len(text))
            if part["type"] == "image_url":
                size += picture_memory(len(part["image_url"]["url"]))
    return size


def picture_memory(chars: int) -> int:
    """Return the bytes that pictures take whose URLs have that many characters."""
    return _PICTURE_COPIES * chars


def object_memory(size: int) -> int:
    """Return the bytes that an object of a run takes that has `size` bytes as JSON: it is in several events."""
    return _OBJECT_COPIES * size


def exchange_memory(exchange_bytes: int) -> int:
    """Return the bytes that a run's tool calls and outputs take in rows, events, checkpoints and the prompt."""
    return _TEXT_COPIES * exchange_bytes
