"""`threadhold import`: imports threads and assistants of a dump, with their ids and times, while no server runs.

Invariants: nothing is written until the whole file has been read and checked. A conversation is one commit, so a killed
import leaves only whole conversations. Existing objects are not changed, so a second import completes the first.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ops.conversations import ConversationRows, DumpContents, assistant_rows, read_dump
from ops.dump import Dump, open_dump
from ops.factories import ServerSettings
from ops.owners import key_owners, owner_of_import
from ops.progress import progress
from ops.terminal import print_error, print_line
from store.ports import Insert, ProgressCallback, Row, Store
from wire.errors import StoreError, StoreFailed

__all__ = ["run_import"]

_MAX_REPORTED: Final = 20
_BATCH: Final = 32
"""Conversations that are written concurrently, so that they share a transaction."""


@dataclass(slots=True)
class _Outcome:
    """What an import wrote: the number of rows by kind, with the existing groups under `there`; the ids of the imported
    assistants; and the reasons for groups that were not written."""

    done: Counter[str] = field(default_factory=Counter)
    assistant_ids: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)


def run_import(settings: ServerSettings, source: str, *, owner: str | None, skip_refused: bool, dry_run: bool) -> int:
    """Import a dump and return the exit code. Raises ThreadholdError, OSError."""
    whose = owner_of_import(owner, key_owners(settings))
    now = int(time.time())
    maintenance = settings.database.maintenance
    if not dry_run and maintenance.is_exclusive and maintenance.in_use():
        raise StoreFailed(
            f"A server uses the database `{settings.database.name}`. Stop it, import, and start it again. --dry-run "
            "only reads the dump, and works while the server is running."
        )
    with open_dump(source) as dump, progress() as on_progress:
        found = read_dump(dump, now=now, on_progress=on_progress)
        _report_refusals(found, dump.unit)
        _report_pages(found, dump.unit)
        incomplete = f"; {len(found.pages)} lists are incomplete" if found.pages else ""
        if found.invalid and not skip_refused:
            print_error("nothing was imported; correct these entries, or leave them out with --skip-refused")
            return 1
        if not found.conversations and not found.assistants:
            why = "every entry was refused" if found.invalid else "it has no thread, message, run, step or assistant"
            print_error(f"there is nothing to import in `{source}`: {why}")
            return 1
        if dry_run:
            messages = sum(each.messages for each in found.conversations)
            assistants = sum(map(len, found.assistants.values()))
            print_line(
                f"would import {len(found.conversations)} threads with {messages} messages and "
                f"{assistants} assistants for {whose}, except those that exist already; nothing was written{incomplete}"
            )
            _report_keyless(found.keyless, "would have")
            return 0
        outcome = asyncio.run(_write_all(settings, dump, found, whose, now=now, on_progress=on_progress))
    done = outcome.done
    there = f"; {done['there']} existed already and were not changed" if done["there"] else ""
    print_line(
        f"imported {done['thread']} threads with {done['message']} messages and {done['run']} runs, and "
        f"{done['assistant']} assistants for {whose}{there}{incomplete}"
    )
    _report_keyless({id: lacking for id, lacking in found.keyless.items() if id in outcome.assistant_ids}, "have")
    for why in outcome.failed:
        print_error(f"left out: {why}")
    return 1 if outcome.failed else 0


def _report_refusals(found: DumpContents, unit: str) -> None:
    for invalid_entry in found.invalid[:_MAX_REPORTED]:
        print_error(f"{unit} {invalid_entry.number}: {invalid_entry.why}")
    if len(found.invalid) > _MAX_REPORTED:
        print_error(f"and {len(found.invalid) - _MAX_REPORTED} more")


def _report_pages(found: DumpContents, unit: str) -> None:
    for page in found.pages[:_MAX_REPORTED]:
        where = "the file" if page.number is None else f"{unit} {page.number}"
        where += f": {page.path}" if page.path else ""
        print_error(f"{where}: `has_more` is true, but the following pages are missing")
    if len(found.pages) > _MAX_REPORTED:
        print_error(f"and {len(found.pages) - _MAX_REPORTED} more such pages")


def _report_keyless(keyless: Mapping[str, Mapping[int, Sequence[str]]], have: str) -> None:
    """Name every tool that was imported without its keys: the user must add them again."""
    if not keyless:
        return
    count = sum(map(len, keyless.values()))
    print_error(
        f"{count} tools {have} no key, because a dump contains none. They are called without a key until you set it "
        "(POST /assistants/{assistant_id}):"
    )
    for id, lacking in keyless.items():
        listed = ", ".join(f"tools[{index}] ({', '.join(names)})" for index, names in lacking.items())
        print_error(f"  {id}: {listed}")


async def _write_all(
    settings: ServerSettings, dump: Dump, found: DumpContents, owner: str, *, now: int, on_progress: ProgressCallback
) -> _Outcome:
    """Write the objects that do not exist yet."""
    outcome = _Outcome()
    async with settings.database.open(has_reserve=True) as backend:
        store = backend.records
        await store.purge()  # a deleted thread can be imported again with its id
        assistants = assistant_rows(found, dump, owner, now=now)
        await _write(store, [[row] for row in assistants], outcome)
        rows = ConversationRows(dump, owner, now=now)
        for start in range(0, len(found.conversations), _BATCH):
            some = found.conversations[start : start + _BATCH]
            await _write(store, [rows.of(each) for each in some], outcome)
            on_progress("importing", start + len(some), len(found.conversations))
        await store.commit([], durable=True)  # after this, all of them are on disk
    return outcome


async def _write(store: Store, groups: Sequence[list[Row]], into: _Outcome) -> None:
    there = await asyncio.gather(*(store.get(rows[0].kind, rows[0].id, rows[0].owner) for rows in groups))
    new = [rows for rows, known in zip(groups, there, strict=True) if known is None]
    into.done["there"] += len(groups) - len(new)
    commits = [store.commit([Insert(row) for row in rows], durable=False) for rows in new]
    for rows, result in zip(new, await asyncio.gather(*commits, return_exceptions=True), strict=True):
        match result:
            case StoreFailed():  # the next commits would fail too
                raise result
            case StoreError():
                into.failed.append(f"{rows[0].id}: {result.message}")
            case BaseException():
                raise result
            case _:
                into.done.update(row.kind for row in rows)
                into.assistant_ids.update(row.id for row in rows if row.kind == "assistant")
