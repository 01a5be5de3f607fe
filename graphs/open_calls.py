"""Tracks the calls of a run's open step, and which of their outputs the step's row and the thread's items lack. Pure.

Invariant: all writes of a step have bytes in proportion to its size, whatever the number of its calls. A step's row is
always written whole, so small outputs of a large step are written together.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

from graphs.tools.kinds import STEP_CALLS
from graphs.tools.port import ItemChange
from wire.json import JsonObject, JsonView, UncheckedJson

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

    def __init__(self, details: JsonView | None = None, contents: dict[str, list[UncheckedJson]] | None = None) -> None:
        self.contents: dict[str, list[UncheckedJson]] = contents or {}
        self._by_id = {call["id"]: call for call in (details or {}).get("tool_calls", ())}
        self._written = len(orjson.dumps(details)) if self._by_id else 0
        self._unwritten = 0
        self._urgent_bytes = 0
        self._is_urgent = False
        self._stored = {id for id, call in self._by_id.items() if STEP_CALLS[call["type"]].has_outcome(_object(call))}
        self._unstored: dict[str, None] = {}

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
                if answer(_object(call), output):
                    self._unstored[call_id] = None
                self._unwritten += len(output) + _OUTPUT_BYTES

    def show_details(self, call_id: str, details: JsonObject, contents: list[UncheckedJson] | None) -> None:
        """Add what the step shows of a call besides its output."""
        if (call := self._by_id.get(call_id)) is None:
            return
        call[call["type"]] = details
        self._unstored[call_id] = None
        if contents is not None:
            self.contents[call_id] = contents
        self._unwritten += len(orjson.dumps([details, contents])) + _OUTPUT_BYTES
        self._urgent_bytes += self._written
        self._is_urgent = self._urgent_bytes <= _URGENT_BYTES

    def item_changes(self) -> Iterator[tuple[ItemChange, bool]]:
        """Yield the outcomes that the thread's items lack, and whether items have an earlier outcome of the same call.
        They count as stored from then on."""
        for id in self._unstored:
            call = self._by_id[id]
            yield STEP_CALLS[call["type"]].item_change(id, _object(call), self.contents.get(id)), id in self._stored
        self._stored.update(self._unstored)
        self._unstored.clear()

    def waiting_items(self) -> Iterator[str]:
        """Yield the ids of the items that wait for an outcome."""
        for id, call in self._by_id.items():
            item_id = STEP_CALLS[call["type"]].waiting_item
            if item_id is not None and id not in self._stored and id not in self._unstored:
                yield item_id(id)

    def note_written(self) -> None:
        """Record that the row has all outputs."""
        self._written += self._unwritten
        self._unwritten = 0
        self._is_urgent = False


def _object(call: JsonObject) -> JsonObject:
    """Return the object under the name of the call's type."""
    found: JsonObject = call[call["type"]]
    return found
