"""A database as a former schema wrote it: files, passages, and their words in that schema's form."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from store.sqlite.migrations import MIGRATIONS

__all__ = ["write_former"]


def write_former(
    path: Path,
    files: dict[str, Sequence[tuple[str, str]]],
    *,
    owner: str = "ann",
    store: str = "vs",
    form: int = 1,
    refolded: int | None = None,
) -> None:
    """Write a database with one vector store. A passage is its text and its words in the index.

    Args:
        form: The form of the files.
        refolded: How many passages of each file have the next form. The schema before forms if None.
    """
    before = "m007_uploads" if refolded is None else "m013_next_forms"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = OFF")
        MIGRATIONS.apply(Database(conn), stop_before=before)
        conn.execute("BEGIN")
        conn.execute(
            "INSERT INTO index_stores (seq, vector_store_id, owner, revision) VALUES (1, ?, ?, 1)", (store, owner)
        )
        for seq, (file_id, passages) in enumerate(files.items(), 1):
            values = (seq, file_id, owner, len(passages))
            conn.execute(
                """INSERT INTO index_files (seq, store, file_id, owner, state, model, dimensions, chunks, attributes)
                   VALUES (?, 1, ?, ?, 'whole', 'm', 2, ?, '{}')""",
                values,
            )
            vectors = np.tile(np.array([1, 0], dtype=np.float16), len(passages)).tobytes()
            conn.execute("INSERT INTO index_vectors VALUES (?, ?, ?)", (seq, owner, vectors))
            for at, (text, words) in enumerate(passages, seq << 20):
                conn.execute("INSERT INTO index_chunks VALUES (?, ?, 0, ?, ?)", (at, owner, len(text), text))
                conn.execute("INSERT INTO index_words (rowid, store, text) VALUES (?, 's1', ?)", (at, words))
        if refolded is not None:
            conn.execute("UPDATE index_files SET form = ?, refolded = min(?, chunks)", (form, refolded))
        conn.execute("COMMIT")
