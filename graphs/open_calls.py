"""Tracks the calls of a run's open step, and which of their outputs the step's row lacks. Pure.

Invariant: all writes of a step have bytes in proportion to its size, whatever the number of its calls. A step's row is
always written whole, so small outputs of a large step are written together.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

__all__ = ["OpenCalls"]

_SMALL_BYTES: Final = 16 * 1024
"""A step up to this size is written after each output."""

_URGENT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one step's writes for search results alone: after a crash no checkpoint has the results, only the row."""

_OUTPUT_BYTES: Final = 16
"""Bytes of an output in addition to its text."""


class OpenCalls:
    """The calls in `details`, which are a step's details as in its row. Outputs are added there.

    `contents` are the passages of the step's searches by call id, which are kept apart from the details.
    """

    def __init__(self, details: Mapping[str, Any] | None = None, contents: dict[str, list[Any]] | None = None) -> None:
        self.contents: dict[str, list[Any]] = contents or {}
        self._by_id = {call["id"]: call for call in (details or {}).get("tool_calls", ())}
        self._written = len(orjson.dumps(details)) if self._by_id else 0
        self._unwritten = 0
        self._urgent_bytes = 0
        self._is_urgent = False

    @property
    def is_behind(self) -> bool:
        """Whether the row lacks an output."""
        return self._unwritten > 0

    @property
    def is_far_behind(self) -> bool:
        """Whether the row lacks enough to be worth a write."""
        is_large = self._written < _SMALL_BYTES or 4 * self._unwritten >= self._written
        return self.is_behind and (is_large or self._is_urgent)

    def answer(self, outputs: Mapping[str, str]) -> None:
        """Add outputs by call id. The findings of a search are shown only as its results."""
        for call_id, output in outputs.items():
            call = self._by_id.get(call_id)
            if call is not None and call["type"] == "function":
                call["function"]["output"] = output
                self._unwritten += len(output) + _OUTPUT_BYTES

    def show_results(self, call_id: str, results: list[dict[str, Any]], ranking: dict[str, Any] | None) -> None:
        """Add the results of a search, without the passages."""
        if (call := self._by_id.get(call_id)) is not None:
            shown = [{key: value for key, value in each.items() if key != "content"} for each in results]
            call["file_search"] = {"ranking_options": ranking, "results": shown}
            self.contents[call_id] = [each["content"] for each in results]
            self._unwritten += len(orjson.dumps(results)) + _OUTPUT_BYTES
            self._urgent_bytes += self._written
            self._is_urgent = self._urgent_bytes <= _URGENT_BYTES

    def note_written(self) -> None:
        """Record that the row has all outputs."""
        self._written += self._unwritten
        self._unwritten = 0
        self._is_urgent = False
