"""The words of passages in the full-text index, in slices that a commit can write or erase.

Invariant: a slice is limited by the size of its folded text, because folding can make 18 characters of one. The index
keeps no text, so words are erased by passing the same words again. Folding takes longer than a commit, so texts are
folded before it, and never on the writer's thread.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from store.folding import FORM, fold_passage, fold_v1, fold_v2

__all__ = [
    "MAX_BYTES",
    "MAX_PASSAGES",
    "Words",
    "delete_words",
    "fold_slice",
    "insert_words",
    "mark",
    "size",
    "stored_words",
]

MAX_PASSAGES: Final = 16
MAX_BYTES: Final = 32 * 1024
"""Maximum passages in a commit, and the bytes of folded text after which it takes no further passage: 5 to 20 ms of the
writer's thread, depending on the number of distinct words."""

Words = tuple[int, str, str]
"""A passage's number, the mark of its store, and its folded text."""


_FOLDINGS: Final[Mapping[int, Callable[[str], str]]] = {1: fold_v1, 2: fold_v2, FORM: fold_passage}


def mark(store: int) -> str:
    """Return the word that marks the chunks of a store."""
    return f"s{store}"


def stored_words(store: int, seq: int, text: str, *, form: int, refolded: int = 0) -> Words:
    """Return the words of a file's passage in the index.

    `form` and `refolded` are the file's own: its first `refolded` passages already have the next form.
    """
    is_next = seq & 0xFFFFF < refolded
    return (seq, mark(store), _FOLDINGS[form + is_next](text))


def size(words: Words) -> int:
    """Return the bytes of the folded text."""
    return len(words[2].encode("utf-8", "surrogatepass"))


def fold_slice(store: int, rows: Iterable[tuple[int, str]], *, form: int, refolded: int = 0) -> list[Words]:
    """Return the words of the first passages (number and text) of a file, as many as one commit takes; at least one."""
    words: list[Words] = []
    total = 0
    for seq, text in rows:
        words.append(stored_words(store, seq, text, form=form, refolded=refolded))
        total += size(words[-1])
        if len(words) == MAX_PASSAGES or total >= MAX_BYTES:
            break
    return words


def insert_words(conn: sqlite3.Connection, words: Sequence[Words]) -> None:
    """Add the words of passages to the index."""
    conn.executemany("INSERT INTO index_words (rowid, store, text) VALUES (?, ?, ?)", words)


def delete_words(conn: sqlite3.Connection, words: Sequence[Words]) -> None:
    """Erase words from the index, which must have exactly these words for these passages."""
    sql = "INSERT INTO index_words (index_words, rowid, store, text) VALUES ('delete', ?, ?, ?)"
    conn.executemany(sql, words)
