"""Reads a run's history: the newest messages of its thread before its own, oldest first, and no more than is useful.

Pages are read newest first. Limits apply to the characters, to the number of messages, and to the size that the store
reads, such as pictures within messages. A run therefore costs the same in a thread of ten messages as in one of ten
thousand. Calls of earlier runs have limits of their own (`graphs.past_calls`), so no message is left out because of
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from chains.context import PastRound
from graphs.past_calls import PastCalls
from store.ports import Delete, ListKind, Page, PageQuery, Row, Store, is_item, is_message
from wire.errors import InvalidRequest, NotFound
from wire.messages import Message, MessageContent

__all__ = ["FIRST_PAGE", "MAX_CHARS", "History", "cut_from", "history_of", "load_history"]

MAX_CHARS: Final = 1_200_000
"""Characters read if the model's context is unknown: about 300,000 tokens, more than common models accept."""

_MAX_MESSAGES: Final = 2_000
"""This limit applies however short they are: each takes about 20 µs of the event loop in each reply. Deleting one takes
the store as long, so the limit applies to deletions in one commit, too."""

_MAX_STORED: Final = 40 * 1024 * 1024
"""Maximum characters of the messages as stored, including pictures in `data:` URLs. Models accept no more pictures in
one request."""

_MAX_CUT_BYTES: Final = 40 * 1024 * 1024
"""Maximum size of the messages that one commit deletes: SQLite reads a large row to free it, which takes about 2 ms per
MiB, and all other commits wait. The last message can have any size, as where a request deletes it."""

_PART_CHARS: Final = 32
"""Characters that a message, a part and an annotation each count for, in addition to their text: each costs time and
memory."""

_IMAGE_CHARS: Final = 3_000
"""Characters that an image counts for, as in the prompt."""

FIRST_PAGE: Final = PageQuery(limit=40)
"""The page that contains the whole of most threads; the start of a run requests it together with its other reads."""

_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class History:
    """Message bodies, oldest first; `clipped` if older ones were not read because they would be of no use."""

    messages: list[Message]
    clipped: bool = False
    past: Mapping[str, Sequence[PastRound]] = field(default_factory=dict)
    """The answered calls of earlier runs, by the id of the message that they follow (see `PastCalls`)."""


class _HistoryReader:
    """The entries of a thread that were read so far, newest first."""

    def __init__(self, max_chars: int) -> None:
        self.past = PastCalls(max_chars)
        self.messages: list[Message] = []
        self.oldest_stored: str | None = None
        """The id of the oldest stored message."""
        self.chars = 0

    def add(self, row: Row, max_chars: int) -> bool:
        """Add an entry. Returns whether no more are to be read."""
        if is_item(row):
            self.past.add(row)
        elif is_message(row):
            self.past.add_message(row)
            self.messages.append(_lean(row.body))
            self.oldest_stored = row.id
            self.chars += _size(row.body)
            return self.chars > max_chars or len(self.messages) >= _MAX_MESSAGES
        return False

    def add_newer(self, rows: Sequence[Row]) -> int | None:
        """Add entries that are newer than the stored ones, until no more are to be read. Returns how many are left
        then, or None."""
        left = next((at for at in reversed(range(len(rows))) if self.add(rows[at], MAX_CHARS)), None)
        self.oldest_stored = None
        return left

    def history(self, *, clipped: bool = False, whole: bool = False) -> History:
        """Return what was read; `whole` if that is the whole thread."""
        if whole:
            self.past.add_start()
        return History(self.messages[::-1], clipped, self.past.rounds())


def history_of(entries: Sequence[Row]) -> History:
    """Return the history of a new thread with these entries, within the same limits as a stored one's."""
    reading = _HistoryReader(MAX_CHARS)
    left = reading.add_newer(entries)
    return reading.history(clipped=bool(left), whole=not left)


async def load_history(
    store: Store,
    owner: str,
    thread_id: str,
    *,
    run_id: str | None,
    max_chars: int = MAX_CHARS,
    last: int | None = None,
    first: Page | None = None,
    newer: Sequence[Row] = (),
) -> History:
    """Return the thread's messages and earlier calls without those of the run `run_id` itself.

    Reads until `max_chars` characters are reached (the message that crosses the bound is included), or until `last`
    messages are read. It reads at most 2,000 messages, and at most 40 MiB as stored (the page that crosses the bound is
    included). `first` is the FIRST_PAGE if the caller already has it. `newer` are entries that are to follow the stored
    ones, oldest first; they have the limits of a thread whose model's context is unknown, and `last` does not count
    them.
    """
    reading = _HistoryReader(max_chars)
    page = first or await store.page("entry", owner, FIRST_PAGE, thread_id=thread_id)
    if (left := reading.add_newer(newer)) is not None:
        return reading.history(clipped=bool(left or page.rows))
    # After `last` messages, no older ones are of use, so the history is not clipped then.
    maximum = None if last is None else last + len(reading.messages)
    stored = 0
    while True:
        for row in page.rows:
            if run_id is not None and row.run_id == run_id:
                continue
            is_enough = reading.add(row, max_chars)
            if len(reading.messages) == maximum:
                return reading.history()
            if is_enough:
                return reading.history(clipped=page.has_more or row is not page.rows[-1])
        if not page.has_more or not page.rows:
            return reading.history(whole=True)
        stored += page.size
        if stored > _MAX_STORED:
            return reading.history(clipped=True)
        # Once no more calls are read, the pages contain messages only.
        kind: ListKind = "message" if reading.past.is_full else "entry"
        oldest = next((row.id for row in reversed(page.rows) if kind == "entry" or row.kind == "message"), None)
        after = oldest or reading.oldest_stored
        page = await store.page(kind, owner, PageQuery(limit=_PAGE, after=after), thread_id=thread_id)


async def cut_from(store: Store, owner: str, thread_id: str, message_id: str) -> tuple[Page, list[Delete]]:
    """Return the FIRST_PAGE of the entries before that message, and the deletions of it and all later entries.

    Raises NotFound, or InvalidRequest if those are too many entries for one commit, or too large for it.
    """
    found = await store.entries_from(owner, thread_id, message_id, limit=_MAX_MESSAGES, max_bytes=_MAX_CUT_BYTES)
    if not found:
        raise NotFound(f"No message found with id '{message_id}'.", param="replaces")
    too_many, size = len(found) > _MAX_MESSAGES, sum(entry.size for entry in found)
    if too_many or (size > _MAX_CUT_BYTES and len(found) > 1):
        limit = (
            f"{_MAX_MESSAGES} messages and tool calls, and more follow"
            if too_many
            else f"{_MAX_CUT_BYTES >> 20} MiB of messages and tool calls, and more are in and after"
        )
        raise InvalidRequest(
            f"`replaces` can replace at most {limit} '{message_id}'. Delete the newest ones first.",
            param="replaces",
        )
    gone = [Delete(entry.kind, entry.id, owner, if_exists=True) for entry in found]
    before = await store.page("entry", owner, replace(FIRST_PAGE, after=message_id), thread_id=thread_id)
    return before, gone


def _lean(body: Message) -> Message:
    """Return a message without its attachments: no prompt uses them, and they can have thousands of values."""
    return {**body, "attachments": []} if body.get("attachments") else body


def _size(body: Message) -> int:
    """Return how many characters a message counts for."""
    return _PART_CHARS + sum(map(_weigh, body["content"]))


def _weigh(part: MessageContent) -> int:
    """Return the number of characters that a part counts for."""
    match part["type"]:
        case "text":
            text = part["text"]
            return _PART_CHARS * (1 + len(text.get("annotations") or ())) + len(text["value"])
        case "refusal":
            return _PART_CHARS + len(part["refusal"])
        case _:
            return _IMAGE_CHARS
