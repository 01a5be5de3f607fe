"""`threadhold export`: writes assistants and threads as JSON lines in OpenAI's shapes. A server can be running.

Invariant: a file with the given name is complete, because it is written under another name, synced and renamed.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import orjson
from typing_extensions import Buffer

from ops.factories import ServerSettings
from ops.owners import owner_of_export
from ops.progress import progress
from ops.terminal import print_error
from wire.dumps import missing_keys
from wire.errors import ThreadholdError

__all__ = ["run_export"]


def run_export(settings: ServerSettings, target: str, *, owner: str | None, thread_ids: Sequence[str]) -> int:
    """Write a line per object to the file `target`, or to standard output for `-`. Raises ThreadholdError, OSError."""
    seen: set[str] = set()
    count = keys = 0
    with settings.database.maintenance.snapshot() as snapshot, _written(target) as out, progress() as on_progress:
        whose = owner_of_export(owner, snapshot.owners())
        total = len(thread_ids) or snapshot.count_exported(whose)
        for one in snapshot.exported(whose, thread_ids):
            out.write(orjson.dumps(one) + b"\n")
            count += 1
            seen.add(one["id"])
            if one["object"] == "assistant":
                keys += sum(map(len, missing_keys(one).values()))
            on_progress("exporting", count, total)
        if missing := [id for id in thread_ids if id not in seen]:
            raise ThreadholdError(f"There is no thread {', '.join(missing)}. The export was not saved.")
        left = snapshot.count_excluded(whose, thread_ids)
        counts = {
            "files": left.files,
            "vector stores": left.vector_stores,
            "keys of tools": keys,
            "runs in progress": left.active_runs,
        }
    print_error(f"{count} objects of {whose}")
    if listed := [f"{number} {name}" for name, number in counts.items() if number]:
        left_out = " and ".join([", ".join(listed[:-1]), listed[-1]] if listed[1:] else listed)
        print_error(f"left out: {left_out} of {whose}; only `threadhold backup` copies these")
    return 0


class _Shown(BytesIO):
    """Writes JSON to a terminal, in ASCII, so that no character in it can control the terminal."""

    def write(self, line: Buffer) -> int:
        """Print a line of JSON."""
        return sys.stdout.buffer.write(
            json.dumps(orjson.loads(memoryview(line))).replace("\x7f", "\\u007f").encode() + b"\n"
        )


@contextmanager
def _written(target: str) -> Iterator[IO[bytes]]:
    if target == "-":
        yield _Shown() if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists():
        raise ThreadholdError(f"`{path}` exists already. Choose another name.")
    aside = path.with_name(f"{path.name}.partial")
    opened = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # private conversations
    try:
        with os.fdopen(opened, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
