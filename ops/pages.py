"""Finds incomplete listings in a dump: programs often save the first page and omit the others.

Invariant: a page with `has_more` is incomplete unless the dump also has the last page of the same listing. A listing is
the messages of a thread, the runs of a thread, the steps of a run, all threads, or all assistants.
"""

from collections.abc import Collection
from dataclasses import dataclass

from wire.dumps import DumpKind, listed

__all__ = ["Page", "Pages"]


@dataclass(frozen=True, slots=True)
class Page:
    """The position of a page: the number of its entry, None for the whole file, and its path there (`messages`)."""

    number: int | None
    path: str = ""
    thread_id: str | None = None
    """The thread whose messages, runs or steps the page lists."""


class Pages:
    """The pages of a dump that have been read so far."""

    def __init__(self) -> None:
        self._open: list[tuple[tuple[str, str], Page]] = []
        self._ended: set[tuple[str, str]] = set()

    def note_entry(
        self, number: int, whole: object, kind: DumpKind, first: dict[str, object], thread_id: str | None
    ) -> None:
        """Note the page that an entry is, if it is one. `whole` is the entry; `first` is its first object."""
        if isinstance(whole, dict) and whole.get("object") == "list":
            parents: dict[DumpKind, object] = {"message": thread_id, "run": thread_id, "step": first.get("run_id")}
            page = Page(number, thread_id=thread_id if kind in parents else None)
            self._note(page, whole, kind, str(parents.get(kind, "")))

    def note_within(self, number: int, path: str, kind: DumpKind, data: dict[str, object], thread_id: str) -> None:
        """Note the listings in a thread or run that was not refused; `path` is its path in the entry."""
        if kind == "thread":
            self._note(Page(number, f"{path}messages", thread_id), data.get("messages"), "message", thread_id)
            self._note(Page(number, f"{path}runs", thread_id), data.get("runs"), "run", thread_id)
            for index, run in enumerate(listed(data.get("runs"), "runs")):
                self.note_within(number, f"{path}runs[{index}].", "run", run, thread_id)
        elif kind == "run":
            self._note(Page(number, f"{path}steps", thread_id), data.get("steps"), "step", str(data.get("id")))

    def unfinished(self, refused: Collection[str]) -> list[Page]:
        """Return the incomplete pages in the order of the file, without those of `refused` threads."""
        return [page for of, page in self._open if of not in self._ended and page.thread_id not in refused]

    def _note(self, page: Page, value: object, kind: DumpKind, of: str) -> None:
        more = value.get("has_more") if isinstance(value, dict) else None
        if more is True:
            self._open.append(((kind, of), page))
        elif more is False:
            self._ended.add((kind, of))
