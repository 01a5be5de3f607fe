"""Listings of a dump that are one page of several: programs keep the first and forget the rest.

Law: a page that says `has_more` lacks the rest, unless another page of the same says that it is the last; the same are
one thread's messages, one thread's runs, one run's steps, all threads, all assistants.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from wire.dumps import DumpKind, listed

__all__ = ["Page", "Pages"]


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page is: the number of its entry, None for the whole file, and its place in it (`messages`)."""

    number: int | None
    place: str = ""
    thread_id: str | None = None
    """Whose messages, runs or steps it lists."""


class Pages:
    """The pages that were seen so far."""

    def __init__(self) -> None:
        self._open: list[tuple[tuple[str, str], Page]] = []
        self._ended: set[tuple[str, str]] = set()

    def note_entry(self, number: int, whole: Any, kind: DumpKind, first: dict[str, Any], thread_id: str | None) -> None:
        """Take an entry, `whole`, whose `first` object is of that kind and thread."""
        if isinstance(whole, dict) and whole.get("object") == "list":
            parents: dict[DumpKind, Any] = {"message": thread_id, "run": thread_id, "step": first.get("run_id")}
            page = Page(number, thread_id=thread_id if kind in parents else None)
            self._note(page, whole, kind, str(parents.get(kind, "")))

    def note_within(self, number: int, place: str, kind: DumpKind, data: dict[str, Any], thread_id: str) -> None:
        """Take the listings in a thread or run that was not refused; `place` is where that is in its entry."""
        if kind == "thread":
            self._note(Page(number, f"{place}messages", thread_id), data.get("messages"), "message", thread_id)
            self._note(Page(number, f"{place}runs", thread_id), data.get("runs"), "run", thread_id)
            for index, run in enumerate(listed(data.get("runs"), "runs")):
                self.note_within(number, f"{place}runs[{index}].", "run", run, thread_id)
        elif kind == "run":
            self._note(Page(number, f"{place}steps", thread_id), data.get("steps"), "step", str(data.get("id")))

    def unfinished(self, refused: Collection[str]) -> list[Page]:
        """Return those that lack the rest, without those of `refused` threads, in the order of the file."""
        return [page for of, page in self._open if of not in self._ended and page.thread_id not in refused]

    def _note(self, page: Page, value: Any, kind: DumpKind, of: str) -> None:
        more = value.get("has_more") if isinstance(value, dict) else None
        if more is True:
            self._open.append(((kind, of), page))
        elif more is False:
            self._ended.add((kind, of))
