"""Turns queries into the query language of SQLite's full-text index.

Invariants: nothing that a client writes is syntax: a query is quoted words, joined by OR, folded like the passages
(`store.folding`). The cost of a query is limited: its commonest words, which distinguish least, are left out first.
"""

import sqlite3
import threading
import time
import unicodedata
from collections.abc import Sequence
from typing import Final

from store.folding import fold_query, fold_query_v2, fold_v1
from store.sqlite.fulltext_rows import store_token
from store.stop_words import without_stop_words

__all__ = ["TOKENIZE", "MatchQueryBuilder", "split", "split_former"]

TOKENIZE: Final = "porter unicode61 remove_diacritics 2"

_MAX_WORDS: Final = 64
"""Maximum different words of one query that are searched for; a longer query needs no more to be specific."""

_BUDGET: Final = 8000
"""Maximum occurrences of words that one query visits, besides its rarest word; each takes some microseconds."""

_MANY_CHUNKS: Final = 1000
"""From this number of chunks in the searched stores on, words that are in half of the index are left out, because they
have no weight. Only if these stores make up half of the index: what others have must not decide which words count."""

_AFTER: Final = "\U0010ffff"
"""Sorts after every character of a term."""

_REMEMBERED: Final = 20_000
_MAX_TERM: Final = 200
"""Characters of a term whose count is remembered; the index has terms of up to 32,768 bytes."""
_STALE_S: Final = 30.0


class MatchQueryBuilder:
    """Builds MATCH expressions from the rarest words of a query.

    The count of a word in the index is cached until the size of the index has changed by a fifth.
    """

    def __init__(self) -> None:
        self._size: tuple[int, float | None] = (0, None)
        self._counts: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._scratch: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the scratch database."""
        with self._lock:
            if self._scratch is not None:
                self._scratch.close()

    def clear_counts(self) -> None:
        """Drop the cached counts, because the words of many passages changed although their number did not."""
        with self._lock:
            self._counts.clear()

    def build(
        self, conn: sqlite3.Connection, text: str, *, stores: Sequence[int], total: int, outdated: bool = False
    ) -> str | None:
        """Return the MATCH expression for the words of `text` in any of the stores, which have `total` chunks.

        None if the index has none of its words. With `outdated`, passages whose words are still in a former form are
        found, too.
        """
        text = without_stop_words(text)
        words = split_former(text) if outdated else split(text)
        size = self._ask_size(conn, total)
        counted = sorted((count, at, word) for at, (word, count) in enumerate(self._count(conn, words, size)) if count)
        common = size / 2 if total >= max(_MANY_CHUNKS, size / 2) else size
        chosen: list[tuple[int, str]] = []
        spent = 0
        for count, at, word in counted:
            cost = min(count, total)
            if chosen and (spent + cost > _BUDGET or count > common):
                break
            chosen.append((at, word))
            spent += cost
        if not chosen:
            return None
        wanted = " OR ".join(_quote(word) for _, word in sorted(chosen))
        marks = " OR ".join(f'"{store_token(store)}"' for store in stores)
        return f"store : ({marks}) AND text : ({wanted})"

    def _ask_size(self, conn: sqlite3.Connection, minimum: int) -> int:
        """Return the number of chunks in the whole index, as of at most half a minute ago."""
        with self._lock:
            size, asked_at = self._size
        now = time.monotonic()
        if asked_at is None or now - asked_at > _STALE_S:
            (size,) = conn.execute("SELECT coalesce(sum(chunks), 0) FROM index_files").fetchone()
            with self._lock:
                self._size = (size, now)
        return max(size, minimum)

    def _count(self, conn: sqlite3.Connection, words: Sequence[str], size: int) -> list[tuple[str, int]]:
        """Return each word with the number of chunks that contain it."""
        counts = []
        for word, terms in self._terms(words):
            counted = (self._count_term(conn, term, size, prefix=word.endswith("*")) for term in terms)
            known = min(counted, default=0)
            counts.append((word, known))
        return counts

    def _terms(self, words: Sequence[str]) -> list[tuple[str, list[str]]]:
        """Return each word with its terms in the index: its stem without diacritics."""
        found: dict[int, list[str]] = {}
        with self._lock:
            if self._scratch is None:
                self._scratch = _open_scratch()
            self._scratch.execute("DELETE FROM words")
            self._scratch.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(words))
            for term, row in self._scratch.execute("SELECT term, doc FROM terms"):
                found.setdefault(row, []).append(term)
        return [(word, found.get(at, [])) for at, word in enumerate(words)]

    def _count_term(self, conn: sqlite3.Connection, term: str, size: int, *, prefix: bool) -> int:
        key = f"{term}*" if prefix else term
        count, then = self._counts.get(key, (0, 0))
        if not count or abs(size - then) * 5 > then:
            where, values = ("term >= ? AND term < ?", (term, f"{term}{_AFTER}")) if prefix else ("term = ?", (term,))
            sql = f"SELECT coalesce(sum(doc), 0) FROM index_terms WHERE {where} AND col = 'text'"
            (count,) = conn.execute(sql, values).fetchone()
            if count and len(key) <= _MAX_TERM:
                with self._lock:
                    if len(self._counts) >= _REMEMBERED:
                        self._counts.clear()
                    self._counts[key] = (count, size)
        return count


def _open_scratch() -> sqlite3.Connection:
    """Return a database in memory that splits and stems words as the index does."""
    scratch = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    scratch.execute(f"CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = '{TOKENIZE}')")
    scratch.execute("CREATE VIRTUAL TABLE terms USING fts5vocab (words, 'instance')")
    return scratch


def split(text: str) -> list[str]:
    """Return the distinct words (letters and digits) of a query, in order."""
    return _split(fold_query(text).replace("*", " "))


def split_former(text: str) -> list[str]:
    """Return the words of a query that find passages in any form. A word that ends in `*` is a prefix."""
    first = _split(fold_v1(text).replace("*", " "))
    return list(dict.fromkeys([*_split(fold_query_v2(text)), *first]))


def _split(text: str) -> list[str]:
    spaced = "".join(char if char == "*" or _is_of_word(char) else " " for char in text)
    return list(dict.fromkeys(spaced.casefold().split()))[:_MAX_WORDS]


def _is_of_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Co"


def _quote(word: str) -> str:
    return f'"{word[:-1]}" *' if word.endswith("*") else f'"{word}"'
