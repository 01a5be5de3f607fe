"""`threadhold backup`: copies everything to a folder while the server runs. See `store/sqlite/backup.py`."""

from pathlib import Path

from ops.parts import Configured
from ops.progress import progress
from ops.terminal import complain, say
from store.sqlite.backup import back_up

__all__ = ["run_backup"]

_NAMED = 10


def run_backup(settings: Configured, target: Path) -> int:
    """Make the copy, say what is in it; the exit code is 1 where the server's own folder lacks bytes of files."""
    with progress() as watch:
        made = back_up(settings.database, settings.data_dir / "files", target, watch=watch)
    size = f"{made.bytes / 1e6:.1f} MB"
    say(f"{target}: {made.threads} threads and {made.files} files, {size}; read again and found whole")
    if made.lost:
        named = ", ".join(made.lost[:_NAMED]) + ("" if len(made.lost) <= _NAMED else ", …")
        complain(
            f"the backup is kept, but the bytes of {len(made.lost)} files are missing or damaged in "
            f"`{settings.data_dir / 'files'}` itself: {named}. Delete these files, or upload them anew."
        )
        return 1
    return 0
