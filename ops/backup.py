"""`threadhold backup`: copies all stored data to a folder, whether or not a server is running."""

from pathlib import Path

from ops.factories import ServerSettings
from ops.progress import progress
from ops.terminal import print_error, print_line

__all__ = ["run_backup"]

_NAMED = 10


def run_backup(settings: ServerSettings, target: Path) -> int:
    """Make the copy and print its size. The exit code is 1 if bytes of files are missing in the server's own folder."""
    with progress() as on_progress:
        made = settings.database.maintenance.back_up(settings.data_dir / "files", target, on_progress=on_progress)
    size = f"{made.bytes / 1e6:.1f} MB"
    print_line(f"{target}: {made.threads} threads and {made.files} files, {size}; the copy was verified")
    if made.lost:
        named = ", ".join(made.lost[:_NAMED]) + ("" if len(made.lost) <= _NAMED else ", …")
        print_error(
            f"the backup is kept, but the bytes of {len(made.lost)} files are missing or damaged in "
            f"`{settings.data_dir / 'files'}` itself: {named}. Delete these files, or upload them again."
        )
        return 1
    return 0
