"""The calls of a thread's earlier runs, as their later prompts show them. Pure.

Invariants: each call has its output, so calls that a cancelled or expired run left open are not shown. An output
belongs to the nearest call before it with its id. Shown are calls of functions and actions. Searches of files are not:
only the run that searched can cite the passages, and a later run searches again. The calls have at most a quarter of
the characters that are read of a thread. Those after its newest message can have all of them, as the next reply answers
them.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, NamedTuple

from chains.context import THREAD_START, PastCall, PastRound
from store.ports import ItemRow, MessageRow
from wire.items import FunctionCall

__all__ = ["PastCalls", "past_chars"]

_SHARE: Final = 4
_MAX_ITEMS: Final = 1_000
"""As for messages, each costs time in every reply."""
_ITEM_CHARS: Final = 64
"""Characters that an item counts for, in addition to its text."""


class _Call(NamedTuple):
    """The item of a call, its row, and what is known of its reply."""

    body: FunctionCall
    row: ItemRow
    output: str | None
    group: Hashable
    """Equal for the calls of one reply: their step, or else their position between outputs."""


class PastCalls:
    """Collects items and messages of a thread, newest first."""

    def __init__(self, max_chars: int) -> None:
        """`max_chars` are read of the whole thread."""
        self.is_full = False
        self._max_chars = max_chars
        self._share = 1  # until the newest message
        self._chars = self._items = 0
        self._outputs: dict[str, str] = {}
        self._group = 0
        self._waiting: list[_Call] = []
        self._after: dict[str, list[_Call]] = {}
        self._texts: dict[str, str | None] = {}

    def add(self, item: ItemRow) -> None:
        """Add an item, unless it or a newer one exceeds the limits."""
        body = item.body
        if self.is_full or (body["type"] != "function_call" and body["type"] != "function_call_output"):
            return
        text = body["arguments"] if body["type"] == "function_call" else body["output"]
        self._items += 1
        self._chars += len(text) + _ITEM_CHARS
        if self._chars > self._max_chars // self._share or self._items > _MAX_ITEMS:
            self.is_full = True
        elif body["type"] == "function_call":
            group = item.private.get("step_id") or (item.run_id, self._group)
            self._waiting.append(_Call(body, item, self._outputs.pop(body["call_id"], None), group))
        else:
            self._outputs[body["call_id"]] = text
            self._group += 1  # calls before an output are of an earlier reply than those after it

    def add_message(self, message: MessageRow) -> None:
        """Add the message that the calls added since the last one follow."""
        self._share = _SHARE
        if self._waiting:
            self._after[message.id] = self._waiting[::-1]
            self._waiting = []
            if message.body["role"] == "assistant":
                self._texts[message.id] = message.run_id

    def add_start(self) -> None:
        """Add the start of the thread: the calls added since the last message follow none."""
        if self._waiting:
            self._after[THREAD_START] = self._waiting[::-1]
            self._waiting = []

    def rounds(self) -> dict[str, list[PastRound]]:
        """Return the answered calls, oldest first, by the id of the message that they follow."""
        return {id: made for id, calls in self._after.items() if (made := self._rounds(id, calls))}

    def _rounds(self, after: str, calls: Sequence[_Call]) -> list[PastRound]:
        by_reply: dict[Hashable, list[_Call]] = {}
        for call in calls:
            by_reply.setdefault(call.group, []).append(call)
        made: list[PastRound] = []
        for number, of_reply in enumerate(by_reply.values()):
            answered = tuple(
                PastCall(
                    id=call.body["call_id"],
                    upstream_id=call.row.private.get("upstream_id") or call.body["call_id"],
                    name=call.body["name"],
                    arguments=call.body["arguments"],
                    output=call.output,
                )
                for call in of_reply
                if call.output is not None
            )
            extra = next((text for call in of_reply if (text := call.row.private.get("extra_fields"))), "")
            if answered:
                has_text = number == 0 and after in self._texts and of_reply[0].row.run_id == self._texts[after]
                made.append(PastRound(answered, extra, has_text))
        return made


def past_chars(past: Mapping[str, Sequence[PastRound]]) -> int:
    """Return how many characters the calls count for in a prompt."""
    calls = [call for rounds in past.values() for each in rounds for call in each.calls]
    extra = sum(len(each.extra_fields) for rounds in past.values() for each in rounds)
    return extra + sum(_ITEM_CHARS + len(call.arguments) + len(call.output) for call in calls)
