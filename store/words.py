"""Text made fit for SQLite's full-text index, and questions made into its query language.

Laws: nothing that a client writes is ever syntax: a query is quoted words, joined by OR. Writing without spaces
(Chinese, Japanese, Thai, …) is indexed as overlapping pairs of characters, for the index's own tokenizer sees one long
word there. What a query may cost is bounded: its commonest words, which tell the least, are left out first.
"""

import re
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Sequence
from typing import Final

__all__ = ["TOKENIZE", "Words", "fold", "mark", "split"]

TOKENIZE: Final = "porter unicode61 remove_diacritics 2"

_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
)
_MOST: Final = 64
"""Different words of one query that are looked for; a longer query has said by then what it is about."""

_BUDGET: Final = 8000
"""Places of words that one query walks through, but for its rarest word; each costs some microseconds."""

_MANY: Final = 1000
"""Chunks in the whole index from which on a word that is in half of them is left out: it weighs nothing there."""

_REMEMBERED: Final = 20_000
_STALE_S: Final = 30.0


class Words:
    """How often a word is in the index, asked of SQLite once and then remembered until the index has grown."""

    def __init__(self) -> None:
        self._size: tuple[int, float | None] = (0, None)
        self._counts: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._scratch: sqlite3.Connection | None = None

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            if self._scratch is not None:
                self._scratch.close()

    def expression(self, conn: sqlite3.Connection, text: str, *, stores: Sequence[int], total: int) -> str | None:
        """Return the MATCH expression for the words of `text` in any of the stores, which have `total` chunks.

        None when there is no word in it that the index has.
        """
        words = split(text)
        size = self._ask_size(conn, total)
        counted = sorted((count, at, word) for at, (word, count) in enumerate(self._count(conn, words, size)) if count)
        chosen: list[tuple[int, str]] = []
        spent = 0
        for count, at, word in counted:
            cost = min(count, total)
            if chosen and (spent + cost > _BUDGET or (size >= _MANY and count > size / 2)):
                break
            chosen.append((at, word))
            spent += cost
        if not chosen:
            return None
        wanted = " OR ".join(f'"{word}"' for _, word in sorted(chosen))
        places = " OR ".join(f'"{mark(store)}"' for store in stores)
        return f"store : ({places}) AND text : ({wanted})"

    def _ask_size(self, conn: sqlite3.Connection, least: int) -> int:
        """Return the chunks of the whole index, at most half a minute old."""
        with self._lock:
            size, asked_at = self._size
        now = time.monotonic()
        if asked_at is None or now - asked_at > _STALE_S:
            (size,) = conn.execute("SELECT coalesce(sum(chunks), 0) FROM index_files").fetchone()
            with self._lock:
                self._size = (size, now)
        return max(size, least)

    def _count(self, conn: sqlite3.Connection, words: Sequence[str], size: int) -> list[tuple[str, int]]:
        """Return each word with the number of chunks that have it."""
        counts = []
        for word, terms in self._terms(words):
            known = min((self._count_term(conn, term, size) for term in terms), default=0)
            counts.append((word, known))
        return counts

    def _terms(self, words: Sequence[str]) -> list[tuple[str, list[str]]]:
        """Return each word with what the index makes of it: its stem without diacritics."""
        found: dict[int, list[str]] = {}
        with self._lock:
            if self._scratch is None:
                self._scratch = _open_scratch()
            self._scratch.execute("DELETE FROM words")
            self._scratch.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(words))
            for term, row in self._scratch.execute("SELECT term, doc FROM terms"):
                found.setdefault(row, []).append(term)
        return [(word, found.get(at, [])) for at, word in enumerate(words)]

    def _count_term(self, conn: sqlite3.Connection, term: str, size: int) -> int:
        count, then = self._counts.get(term, (0, 0))
        if not count or abs(size - then) * 5 > then:
            found = conn.execute("SELECT doc FROM index_terms WHERE term = ? AND col = 'text'", (term,)).fetchone()
            count = 0 if found is None else found[0]
            with self._lock:
                if len(self._counts) >= _REMEMBERED:
                    self._counts.clear()
                self._counts[term] = (count, size)
        return count


def _open_scratch() -> sqlite3.Connection:
    """Return a database in memory that makes of words what the index makes of them."""
    scratch = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    scratch.execute(f"CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = '{TOKENIZE}')")
    scratch.execute("CREATE VIRTUAL TABLE terms USING fts5vocab (words, 'instance')")
    return scratch


def fold(text: str) -> str:
    """Return the text as the index is to see it."""
    # A null character would end the text for SQLite.
    return _UNSPACED.sub(_pairs, text).replace("\0", " ")


def split(text: str) -> list[str]:
    """Return the different words of a query, in order: letters, digits and their marks."""
    spaced = "".join(char if unicodedata.category(char)[0] in "LNM" else " " for char in fold(text))
    return list(dict.fromkeys(spaced.casefold().split()))[:_MOST]


def mark(store: int) -> str:
    """Return the word that marks a store's chunks."""
    return f"s{store}"


def _pairs(found: "re.Match[str]") -> str:
    run = found.group()
    pairs = (run[at : at + 2] for at in range(max(1, len(run) - 1)))
    return f" {' '.join(pairs)} "
