"""Finds files where the store needs a folder, and folders where it needs a file."""

from pathlib import Path

__all__ = ["find_path_conflict", "nearest_existing"]


def find_path_conflict(what: str, path: Path, *, is_folder: bool = False) -> str | None:
    """Return what is wrong if a file is where a folder must be, or a folder where a file must be. Blocks.

    Raises OSError for a path that cannot be examined.
    """
    nearest = nearest_existing(path)
    if nearest.is_dir() == (is_folder or nearest != path):
        return None
    found, wanted = ("folder", "file") if nearest.is_dir() else ("file", "folder")
    advice = "Move it away, or set another DATA_DIR or DATABASE_URL."
    return f"{what} `{path}` cannot be used: `{nearest}` is a {found}, not a {wanted}. {advice}"


def nearest_existing(path: Path) -> Path:
    """Return the path itself, or the first folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
