"""A cache that owners share without evicting each other's values."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["OwnedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class OwnedCache(Generic[K, V]):
    """Values by owner and key, limited in total number and total size. Thread-safe.

    Invariant: if a limit is exceeded, the owner who holds the most of it loses the value that was used least recently.
    An owner who holds less than the others thus keeps everything, whatever they add.
    """

    def __init__(self, *, max_entries: int, max_size: int) -> None:
        self._max_entries = max_entries
        self._max_size = max_size
        self._owners: OrderedDict[str, OrderedDict[K, tuple[int, V]]] = OrderedDict()
        """Entries with their sizes; owners and entries that were used last come last."""
        self._lock = Lock()

    def get(self, owner: str, key: K) -> V | None:
        """Return a value, and note its use; None if there is none."""
        with self._lock:
            entries = self._owners.get(owner)
            if entries is None or key not in entries:
                return None
            self._owners.move_to_end(owner)
            entries.move_to_end(key)
            return entries[key][1]

    def put(self, owner: str, key: K, value: V, size: int) -> None:
        """Add or replace a value. One that is larger than the cache is not kept."""
        with self._lock:
            entries = self._owners.setdefault(owner, OrderedDict())
            entries.pop(key, None)
            entries[key] = size, value
            self._owners.move_to_end(owner)
            while self._total(len) > self._max_entries:
                self._evict(len)
            while self._total(_size) > self._max_size:
                self._evict(_size)

    def _total(self, measure: "Callable[[OrderedDict[K, tuple[int, V]]], int]") -> int:
        return sum(map(measure, self._owners.values()))

    def _evict(self, measure: "Callable[[OrderedDict[K, tuple[int, V]]], int]") -> None:
        owner = max(self._owners, key=lambda each: measure(self._owners[each]))  # of equals, the one used longest ago
        self._owners[owner].popitem(last=False)
        if not self._owners[owner]:
            del self._owners[owner]


def _size(entries: "OrderedDict[K, tuple[int, V]]") -> int:
    return sum(size for size, _ in entries.values())
