"""What is remembered: ports, SQLite, event logs, checkpoints.

The law of the room: one commit is all or nothing; what was answered for is on disk; a change that must not happen
(wrong owner, busy thread, wrong status) is refused inside the transaction, never by a check before it.
"""

from store.sqlite.store import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store"]
