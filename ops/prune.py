"""`threadhold prune`: deletes threads that have not been used for a long time, while no server runs.

With RETENTION_DAYS, a running server prunes in the background.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from graphs.retention import DAY_S, Pruned, prune
from ops.factories import ServerSettings
from ops.progress import progress
from ops.terminal import print_line
from store.ports import Maintenance
from wire.errors import StoreFailed, ThreadholdError

__all__ = ["run_prune"]

_PAGE: Final = 1000


def run_prune(settings: ServerSettings, *, older_s: float | None, dry_run: bool, shrink: bool) -> int:
    """Delete threads last used more than `older_s` seconds ago; None stands for RETENTION_DAYS.

    Raises ThreadholdError if neither is set, or if a server uses the store.
    """
    if older_s is None and not settings.retention_days:
        raise ThreadholdError("No age is given. Use --older-than, such as --older-than 30d, or set RETENTION_DAYS.")
    before = int(time.time() - (settings.retention_days * DAY_S if older_s is None else older_s))
    day = datetime.fromtimestamp(before, UTC).strftime("%Y-%m-%d %H:%M UTC")
    maintenance = settings.database.maintenance
    if dry_run:
        print_line(f"would delete {_count(maintenance, before)} threads last used before {day}; nothing was changed")
        return 0
    if maintenance.is_exclusive and maintenance.in_use():
        raise StoreFailed(
            f"A server uses the database `{settings.database.name}`. Set RETENTION_DAYS so that it prunes, or stop "
            "it, prune, and start it again. --dry-run only counts, and works while the server is running."
        )
    # Raises if there is no database, which `Database.open` would create.
    with maintenance.snapshot(any_schema=True) as snapshot:
        total, _ = snapshot.counts()
    done = asyncio.run(_prune(settings, before, total))
    kept = f"; {done.kept} are in use and were kept" if done.kept else ""
    print_line(f"deleted {done.threads} threads last used before {day}{kept}")
    if shrink:
        freed = maintenance.compact()
        print_line(f"the database is {freed / 1e6:.1f} MB smaller")
    return 0


def _count(maintenance: Maintenance, before: int) -> int:
    count, after = 0, 0
    with maintenance.snapshot() as snapshot:
        while page := snapshot.thread_activity(after, _PAGE):
            after = page[-1].seq
            count += sum(each.used_at < before for each in page)
    return count


async def _prune(settings: ServerSettings, before: int, total: int) -> Pruned:
    async with settings.database.open(has_reserve=True) as backend:
        with progress() as on_progress:
            return await prune(
                backend.records,
                backend.thread_activity,
                before=before,
                pause_s=0,
                on_progress=lambda looked: on_progress("threads", looked, total),
            )
