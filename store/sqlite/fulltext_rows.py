"""The rows of passages in the full-text index: their words, in slices that a commit can write or erase.

Invariant: a slice is limited by the size of its folded text, because folding can turn one character into 18. The index
keeps no text, so words are erased by passing the same words again. Folding takes longer than a commit, so texts are
folded before the commit, and never on the writer's thread.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from store.folding import FORM, fold_passage, fold_v1, fold_v2

__all__ = [
    "MAX_BYTES",
    "MAX_PASSAGES",
    "FulltextRow",
    "delete_rows",
    "fold_slice",
    "fulltext_row",
    "insert_rows",
    "row_bytes",
    "store_token",
]

MAX_PASSAGES: Final = 16
MAX_BYTES: Final = 32 * 1024
"""Maximum passages in a commit, and the bytes of folded text after which it takes no further passage: 5 to 20 ms of the
writer's thread, depending on the number of distinct words."""

FulltextRow = tuple[int, str, str]
"""A passage's number, the token of its vector store, and its folded text."""


_FOLDINGS: Final[Mapping[int, Callable[[str], str]]] = {1: fold_v1, 2: fold_v2, FORM: fold_passage}


def store_token(store: int) -> str:
    """Return the token that marks the rows of a vector store."""
    return f"s{store}"


def fulltext_row(store: int, seq: int, text: str, *, form: int, refolded: int = 0) -> FulltextRow:
    """Return the words of a file's passage in the index.

    `form` and `refolded` are the file's own: its first `refolded` passages already have the next form.
    """
    is_next = seq & 0xFFFFF < refolded
    return (seq, store_token(store), _FOLDINGS[form + is_next](text))


def row_bytes(words: FulltextRow) -> int:
    """Return the bytes of the folded text."""
    return len(words[2].encode("utf-8", "surrogatepass"))


def fold_slice(store: int, rows: Iterable[tuple[int, str]], *, form: int, refolded: int = 0) -> list[FulltextRow]:
    """Return the words of the first passages (number and text) of a file, as many as one commit takes; at least one."""
    words: list[FulltextRow] = []
    total = 0
    for seq, text in rows:
        words.append(fulltext_row(store, seq, text, form=form, refolded=refolded))
        total += row_bytes(words[-1])
        if len(words) == MAX_PASSAGES or total >= MAX_BYTES:
            break
    return words


def insert_rows(conn: sqlite3.Connection, words: Sequence[FulltextRow]) -> None:
    """Add the words of passages to the index."""
    conn.executemany("INSERT INTO index_words (rowid, store, text) VALUES (?, ?, ?)", words)


def delete_rows(conn: sqlite3.Connection, words: Sequence[FulltextRow]) -> None:
    """Erase words from the index, which must have exactly these words for these passages."""
    sql = "INSERT INTO index_words (index_words, rowid, store, text) VALUES ('delete', ?, ?, ?)"
    conn.executemany(sql, words)
