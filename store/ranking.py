"""Two lists of hits made into one: reciprocal rank fusion. Pure.

Law: a hit's score is between 0 and 1, rises with its ranks, and is 1 only for what is first in both lists (or in the
one there is). Ties keep the order of meaning, then of words.
"""

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

__all__ = ["fuse"]

_K: Final = 10
"""How fast a rank loses weight. The paper (Cormack, Clarke, Büttcher 2009) has 60; `docs/decisions/search-ranking.md`
says why this is lower."""

K = TypeVar("K", bound=Hashable)


def fuse(words: Sequence[K], meaning: Sequence[K], weight: float) -> list[tuple[K, float]]:
    """Return what is in either list with its score, best first; `weight` is the share of meaning, 0 to 1."""
    scores: dict[K, float] = {}
    for keys, share in ((meaning, weight), (words, 1 - weight)):
        for rank, key in enumerate(keys):
            scores[key] = scores.get(key, 0.0) + share * (_K + 1) / (_K + 1 + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
