"""Turns the calls, outputs and reasoning of a run into items of its thread. Pure.

Invariant: an item is written in the commit that writes its call or output to the run's step, so a step's row shows
which outcomes have an item. A run without calls and reasoning has no items.
"""

from collections.abc import Mapping

from graphs.machine.exchange import MAX_REPLY_CHARS
from graphs.machine.stream_parts import CallsMade, ReasoningDelta
from graphs.open_calls import OpenCalls
from graphs.tools.kinds import STEP_CALLS
from store.ports import Change, Insert, Patch, Row
from wire.items import reasoning_item

__all__ = ["RunItems"]


class RunItems:
    """The items of one run."""

    def __init__(self, thread_id: str, run_id: str, owner: str) -> None:
        self._thread_id = thread_id
        self._run_id = run_id
        self._owner = owner
        self._message_id = ""
        self._reasoning: list[str] = []
        self._chars = 0
        self._has_item = self._is_behind = False

    # --- reasoning ------------------------------------------------------------------------------------------------

    def add_reasoning(self, part: ReasoningDelta) -> None:
        """Collect the reasoning of a reply, up to the length that its text can have."""
        if part.message_id != self._message_id:
            self._message_id = part.message_id
            self._reasoning = []
            self._chars = 0
            self._has_item = False
        self._chars += len(part.text)
        if self._chars <= MAX_REPLY_CHARS:
            self._reasoning.append(part.text)
            self._is_behind = True

    def write_reasoning(self, message_id: str) -> list[Change]:
        """Return the change that stores the collected reasoning of a reply; none if there is nothing new."""
        if not self._is_behind or message_id != self._message_id:
            return []
        self._is_behind = False
        item = reasoning_item(message_id, "".join(self._reasoning))
        if self._has_item:
            return [self._patch(item["id"], {"content": item["content"]})]
        self._has_item = True
        return [self._insert(item["id"], item, {})]

    # --- calls ----------------------------------------------------------------------------------------------------

    def add_calls(self, part: CallsMade) -> list[Change]:
        """Return the changes for a reply's calls.

        The items' private parts have what a prompt of the same turn requires: the ids of the model's server, and the
        fields that the engine requires back, with the first call.
        """
        changes = self.write_reasoning(part.message_id)
        extra = {"extra_fields": part.extra_fields} if part.extra_fields else {}
        for call in part.calls:
            item = STEP_CALLS[call.get("kind", "function")].item(call)
            if part.cut_off:
                item["status"] = "incomplete"
            private = {"step_id": part.step_id, "upstream_id": call["upstream_id"], **extra}
            changes.append(self._insert(item["id"], item, private))
            extra = {}
        return changes

    def add_outcomes(self, step_id: str, calls: OpenCalls) -> list[Change]:
        """Return the changes for the outcomes that the items lack."""
        changes: list[Change] = []
        for change, exists in calls.item_changes():
            if change.is_new and not exists:
                changes.append(self._insert(change.id, change.fields, {"step_id": step_id}))
            else:
                changes.append(self._patch(change.id, change.fields))
        return changes

    def close_calls(self, calls: OpenCalls) -> list[Change]:
        """Return the changes for the calls whose outcome will not come."""
        return [self._patch(id, {"status": "incomplete"}) for id in calls.waiting_items()]

    # --- details --------------------------------------------------------------------------------------------------

    def _insert(self, id: str, item: Mapping[str, object], private: Mapping[str, str]) -> Insert:
        return Insert(Row("item", id, self._owner, dict(item), self._thread_id, self._run_id, dict(private)))

    def _patch(self, id: str, fields: Mapping[str, object]) -> Patch:
        return Patch("item", id, self._owner, dict(fields), if_exists=True)
