"""The calls of a thread's earlier runs, as their later prompts show them. Pure.

Invariants: each call has its output, so calls that a cancelled or expired run left open are not shown. Shown are calls
of functions and actions. Searches of files are not: only the run that searched can cite the passages, and a later run
searches again. The calls have at most a quarter of the characters that are read of a thread.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from chains.context import PastCall, PastRound
from store.ports import ItemRow, MessageRow
from wire.items import FunctionCall

__all__ = ["PastCalls", "past_chars"]

_SHARE: Final = 4
_MAX_ITEMS: Final = 1_000
"""As for messages, each costs time in every reply."""
_ITEM_CHARS: Final = 64
"""Characters that an item counts for, in addition to its text."""


_Call: TypeAlias = tuple[FunctionCall, ItemRow]
"""The item of a call, and its row."""


class PastCalls:
    """Collects items and messages of a thread, newest first."""

    def __init__(self, max_chars: int) -> None:
        """`max_chars` are read of the whole thread."""
        self.is_full = False
        self._max_chars = max_chars // _SHARE
        self._chars = self._items = 0
        self._outputs: dict[str, str] = {}
        self._waiting: list[_Call] = []
        self._after: dict[str, list[_Call]] = {}
        self._texts: dict[str, str] = {}

    def add(self, item: ItemRow) -> None:
        """Add an item, unless it or a newer one exceeds the limits."""
        body = item.body
        if self.is_full or (body["type"] != "function_call" and body["type"] != "function_call_output"):
            return
        text = body["arguments"] if body["type"] == "function_call" else body["output"]
        self._items += 1
        self._chars += len(text) + _ITEM_CHARS
        if self._chars > self._max_chars or self._items > _MAX_ITEMS:
            self.is_full = True
        elif body["type"] == "function_call":
            self._waiting.append((body, item))
        else:
            self._outputs[body["call_id"]] = text

    def add_message(self, message: MessageRow) -> None:
        """Add the message that the calls added since the last one follow."""
        if self._waiting:
            self._after[message.id] = self._waiting[::-1]
            self._waiting = []
            if message.body["role"] == "assistant" and message.run_id is not None:
                self._texts[message.id] = message.run_id

    def rounds(self) -> dict[str, list[PastRound]]:
        """Return the answered calls, oldest first, by the id of the message that they follow."""
        return {id: made for id, calls in self._after.items() if (made := self._rounds(calls, self._texts.get(id)))}

    def _rounds(self, calls: Sequence[_Call], run_id: str | None) -> list[PastRound]:
        by_step: dict[str | None, list[_Call]] = {}
        for call, row in calls:
            by_step.setdefault(row.private.get("step_id", row.run_id), []).append((call, row))
        made: list[PastRound] = []
        for number, of_step in enumerate(by_step.values()):
            answered = tuple(
                PastCall(
                    id=call["call_id"],
                    upstream_id=row.private.get("upstream_id") or call["call_id"],
                    name=call["name"],
                    arguments=call["arguments"],
                    output=self._outputs[call["call_id"]],
                )
                for call, row in of_step
                if call["call_id"] in self._outputs
            )
            extra = next((text for _, row in of_step if (text := row.private.get("extra_fields"))), "")
            if answered:
                has_text = number == 0 and run_id is not None and of_step[0][1].run_id == run_id
                made.append(PastRound(answered, extra, has_text))
        return made


def past_chars(past: Mapping[str, Sequence[PastRound]]) -> int:
    """Return how many characters the calls count for in a prompt."""
    calls = [call for rounds in past.values() for each in rounds for call in each.calls]
    extra = sum(len(each.extra_fields) for rounds in past.values() for each in rounds)
    return extra + sum(_ITEM_CHARS + len(call.arguments) + len(call.output) for call in calls)
