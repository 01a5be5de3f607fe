"""The port of the vector index: chunks of files, and searches of them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from wire.filters import Attributes, Filter

__all__ = ["Chunk", "Found", "Hit", "Query", "Vectors"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file's extracted text. `start` and `end` are character offsets in that text.

    `index` counts a file's chunks from 0, without gaps. Without a vector a chunk is found by its words only.
    """

    index: int
    text: str
    start: int
    end: int
    vector: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and how: `text` by its words, `vector` (which `model` made) by its meaning.

    `threshold` drops hits that score less (0 to 1). `weight` is the share of meaning in the ranking (0: words only,
    1: meaning only), None the backend's own.
    """

    text: str
    vector: Sequence[float] | None = None
    model: str | None = None
    filters: Filter | None = None
    limit: int = 20
    threshold: float = 0.0
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that was found. `score` is 0 to 1; `attributes` are its file's in that store."""

    vector_store_id: str
    file_id: str
    chunk: Chunk
    score: float
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first. `by_words_only` names files that the query's vector could not reach: theirs are of another
    model, or missing."""

    hits: list[Hit]
    by_words_only: frozenset[str] = frozenset()


class Vectors(Protocol):
    """Everything is within one owner's store; what another owner has looks as if it were not there.

    A file is found when the whole of it has been added, and no longer once `remove` has returned.
    """

    async def add(
        self,
        owner: str,
        vector_store_id: str,
        file_id: str,
        chunks: Sequence[Chunk],
        *,
        model: str | None,
        attributes: Attributes | None = None,
    ) -> None:
        """Index a file, in place of what the store had of it; synced to disk when it returns.

        It goes in small commits, so that others come between; a crash or a cancel on the way leaves nothing that can be
        found. `model` is what made the vectors (None: there are none).

        Raises:
            Missing: the file or the store was removed meanwhile; nothing is kept.
            StoreError: vectors of unequal length, or of another length than that model's were before.
        """
        ...

    async def remove(self, owner: str, vector_store_id: str, file_id: str | None = None) -> None:
        """Forget a file, or the whole store; nothing happens where there is none. Synced when it returns.

        What an addition has written of it by then is forgotten, too. The room is freed by `tidy`.
        """
        ...

    async def tidy(self) -> None:
        """Free the room of what was removed, replaced or never became whole, every owner's, in small commits.

        For whoever does work in the background: at the start, and after a removal. What is being added stays.
        """
        ...

    def refresh(self) -> AsyncIterator[int]:
        """Rewrite what an older version indexed, for every owner, in small commits; yields how many files are left,
        at first and after each.

        For background work after the start. Files are found meanwhile, and vectors stay as they are. A rewrite that was
        cut off goes on where it stopped.
        """
        ...

    async def set_attributes(self, owner: str, vector_store_id: str, file_id: str, attributes: Attributes) -> None:
        """Replace a file's attributes. Raises Missing when it is not indexed there."""
        ...

    async def search(self, owner: str, vector_store_ids: Sequence[str], query: Query) -> Found:
        """Return what fits best in these stores, each chunk of a file once. A store that is not there is empty."""
        ...

    async def chunks(self, owner: str, vector_store_id: str, file_id: str) -> list[Chunk]:
        """Return a file's chunks in order, without vectors; none where it is not indexed."""
        ...

    async def models(self, owner: str, vector_store_id: str) -> frozenset[str | None]:
        """Return which models made the vectors of this store's files; None stands for files that have none."""
        ...
