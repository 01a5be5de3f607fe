"""Tracks the calls of a run's open step, and which of their outputs the step's row lacks. Pure.

Invariant: all writes of a step have bytes in proportion to its size, whatever the number of its calls. A step's row is
always written whole, so small outputs of a large step are written together.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from graphs.tools.kinds import STEP_CALLS

__all__ = ["OpenCalls"]

_SMALL_BYTES: Final = 16 * 1024
"""A step up to this size is written after each output."""

_URGENT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one step's writes for details alone: after a crash no checkpoint has the details, only the row."""

_OUTPUT_BYTES: Final = 16
"""Bytes of an output in addition to its text."""


class OpenCalls:
    """The calls in `details`, which are a step's details as in its row. Outputs are added there.

    `contents` are parts of calls by call id that are kept apart from the details, such as the passages of searches.
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
        """Add outputs by call id, if steps show outputs of that type of call."""
        for call_id, output in outputs.items():
            call = self._by_id.get(call_id)
            if call is not None and (answer := STEP_CALLS[call["type"]].answer) is not None:
                answer(call[call["type"]], output)
                self._unwritten += len(output) + _OUTPUT_BYTES

    def show_details(self, call_id: str, details: dict[str, Any], contents: list[Any] | None) -> None:
        """Add what the step shows of a call besides its output."""
        if (call := self._by_id.get(call_id)) is None:
            return
        call[call["type"]] = details
        if contents is not None:
            self.contents[call_id] = contents
        self._unwritten += len(orjson.dumps([details, contents])) + _OUTPUT_BYTES
        self._urgent_bytes += self._written
        self._is_urgent = self._urgent_bytes <= _URGENT_BYTES

    def note_written(self) -> None:
        """Record that the row has all outputs."""
        self._written += self._unwritten
        self._unwritten = 0
        self._is_urgent = False
