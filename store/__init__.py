"""Persistence: its ports, and their implementation in SQLite with event logs and checkpoints.

Invariants: a commit takes effect as a whole or not at all. What an answer confirms is on disk. A change that must not
happen (wrong owner, busy thread, wrong status) is refused inside the transaction, never by a check before it.
"""

from store.sqlite.store import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store"]
