"""Queries made into the query language of SQLite's full-text index.

Laws: nothing that a client writes is ever syntax: a query is quoted words, joined by OR, folded as the passages are
(`store.folding`). What a query may cost is bounded: its commonest words, which tell the least, are left out first.
"""

import sqlite3
import threading
import time
import unicodedata
from collections.abc import Sequence
from typing import Final

from store.folding import fold_query, fold_v1
from store.questions import without_phrasing

__all__ = ["TOKENIZE", "Words", "mark", "split", "split_v1"]

TOKENIZE: Final = "porter unicode61 remove_diacritics 2"

_MOST: Final = 64
"""Different words of one query that are looked for; a longer query has said by then what it is about."""

_BUDGET: Final = 8000
"""Places of words that one query walks through, but for its rarest word; each costs some microseconds."""

_MANY: Final = 1000
"""Chunks in the whole index from which on a word that is in half of them is left out: it weighs nothing there."""

_AFTER: Final = "\U0010ffff"
"""Sorts behind every character of a term."""

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

    def forget(self) -> None:
        """Count anew: the words of many passages changed although their number did not."""
        with self._lock:
            self._counts.clear()

    def expression(
        self, conn: sqlite3.Connection, text: str, *, stores: Sequence[int], total: int, outdated: bool = False
    ) -> str | None:
        """Return the MATCH expression for the words of `text` in any of the stores, which have `total` chunks.

        None when there is no word in it that the index has. With `outdated`, passages whose words are still in the
        first form are found, too.
        """
        text = without_phrasing(text)
        words = split(text)
        if outdated:
            words = list(dict.fromkeys([*words, *split_v1(text)]))
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
        wanted = " OR ".join(_quote(word) for _, word in sorted(chosen))
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
            counted = (self._count_term(conn, term, size, prefix=word.endswith("*")) for term in terms)
            known = min(counted, default=0)
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

    def _count_term(self, conn: sqlite3.Connection, term: str, size: int, *, prefix: bool) -> int:
        key = f"{term}*" if prefix else term
        count, then = self._counts.get(key, (0, 0))
        if not count or abs(size - then) * 5 > then:
            where, values = ("term >= ? AND term < ?", (term, f"{term}{_AFTER}")) if prefix else ("term = ?", (term,))
            sql = f"SELECT coalesce(sum(doc), 0) FROM index_terms WHERE {where} AND col = 'text'"
            (count,) = conn.execute(sql, values).fetchone()
            with self._lock:
                if len(self._counts) >= _REMEMBERED:
                    self._counts.clear()
                self._counts[key] = (count, size)
        return count


def _open_scratch() -> sqlite3.Connection:
    """Return a database in memory that makes of words what the index makes of them."""
    scratch = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    scratch.execute(f"CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = '{TOKENIZE}')")
    scratch.execute("CREATE VIRTUAL TABLE terms USING fts5vocab (words, 'instance')")
    return scratch


def split(text: str) -> list[str]:
    """Return the different words of a query, in order: letters and digits. A word that ends in `*` is a prefix."""
    return _split(fold_query(text))


def split_v1(text: str) -> list[str]:
    """Return the words of a query as passages in the first form have them."""
    return _split(fold_v1(text).replace("*", " "))


def mark(store: int) -> str:
    """Return the word that marks a store's chunks."""
    return f"s{store}"


def _split(text: str) -> list[str]:
    spaced = "".join(char if char == "*" or _is_of_word(char) else " " for char in text)
    return list(dict.fromkeys(spaced.casefold().split()))[:_MOST]


def _is_of_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Co"


def _quote(word: str) -> str:
    return f'"{word[:-1]}" *' if word.endswith("*") else f'"{word}"'
