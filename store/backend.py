"""The one place that chooses a backend for an address; everything else uses the ports.

A new backend is a folder of `store/` that implements `store.ports.Database`, and an entry here.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from store.ports import Backend, Database, Sharing
from store.sqlite.location import SqliteFile
from wire.errors import InvalidSetting

__all__ = ["configured_database", "open_backend"]

_BACKENDS: Final[Mapping[str, Callable[[str], Database]]] = {"sqlite": SqliteFile.at_url}
"""By the scheme of their URLs. Each returns the database at a URL, and raises InvalidSetting."""

_SUPPORTED: Final = "only SQLite is supported yet. Unset it, or write sqlite:///path/to/file.db"


def configured_database(url: str, data_dir: Path) -> Database:
    """Return the database that DATABASE_URL names, by default a SQLite file in `data_dir`. Opens nothing.

    Raises InvalidSetting.
    """
    return _at_url(url) if url else SqliteFile(data_dir / "threadhold.db")


def open_backend(address: str | Path, *, sharing: Sharing | None = None) -> AbstractAsyncContextManager[Backend]:
    """Open the database at a URL, a SQLite file, or `":memory:"`. See `Database.open`. Raises InvalidSetting,
    StoreFailed."""
    is_url = isinstance(address, str) and "://" in address
    return (_at_url(str(address)) if is_url else SqliteFile(address)).open(sharing=sharing)


def _at_url(url: str) -> Database:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _BACKENDS:
        kind = f"a '{scheme[:20]}' URL" if separator and scheme.isalnum() else "not a URL"
        raise InvalidSetting(f"DATABASE_URL is {kind}, but {_SUPPORTED}.")
    return _BACKENDS[scheme](url)
