"""Combines two lists of hits into one by reciprocal rank fusion. Pure.

Invariant: a hit's score is between 0 and 1, rises with its ranks, and is 1 only for the first hit of both lists (or of
the only list). Ties keep the order of the list by meaning, then of the list by words.
"""

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

__all__ = ["fuse"]

_K: Final = 10
"""How fast a rank loses weight. The paper (Cormack, Clarke, Büttcher 2009) uses 60; `docs/decisions/search-ranking.md`
explains why this is lower."""

K = TypeVar("K", bound=Hashable)


def fuse(words: Sequence[K], meaning: Sequence[K], weight: float) -> list[tuple[K, float]]:
    """Return the keys of both lists with their scores, best first; `weight` is the share of meaning, 0 to 1."""
    scores: dict[K, float] = {}
    for keys, share in ((meaning, weight), (words, 1 - weight)):
        for rank, key in enumerate(keys):
            scores[key] = scores.get(key, 0.0) + share * (_K + 1) / (_K + 1 + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
