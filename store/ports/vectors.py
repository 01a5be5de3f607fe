"""The port of the vector index: chunks of files, and searches of them."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from wire.filters import Attributes, Filter

__all__ = ["Chunk", "Found", "Hit", "Query", "Vectors"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file's extracted text. `start` and `end` are character offsets in that text.

    `index` counts a file's chunks from 0, without gaps. A chunk without a vector is found by its words only.
    """

    index: int
    text: str
    start: int
    end: int
    vector: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search by the words of `text` and by the meaning of `vector`, which `model` made.

    `threshold` drops hits with a lower score (0 to 1). `weight` is the share of meaning in the ranking (0: words only,
    1: meaning only); None is the backend's default.
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
    """One chunk that was found. `score` is 0 to 1; `attributes` are those of its file in that store."""

    vector_store_id: str
    file_id: str
    chunk: Chunk
    score: float
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first. `by_words_only` are the ids of files that the query's vector cannot find, because their vectors
    are from another model, or missing."""

    hits: list[Hit]
    by_words_only: frozenset[str] = frozenset()


class Vectors(Protocol):
    """All methods see only one owner's stores; other owners' objects seem not to exist.

    A file is found once all of it is added, and no longer once `remove` has returned.
    """

    async def add(
        self,
        owner: str,
        vector_store_id: str,
        file_id: str,
        chunks: Sequence[Chunk] | AsyncIterable[Sequence[Chunk]],
        *,
        model: str | None,
        attributes: Attributes | None = None,
        total: int | None = None,
    ) -> None:
        """Index a file, replacing what the store has of it. The file is synced to disk when this returns.

        `chunks` are all of them, or blocks in order, which are asked for one at a time and not kept. `total` is their
        number, if known: the disk must then have space for all of them at the start.

        The file is added in small commits, so that other commits can run in between. A crash, a cancellation or an
        error meanwhile leaves nothing that can be found; `purge` frees its space. `model` is the model that made the
        vectors (None: there are none). `set_attributes` applies to a file that is being added, too.

        Raises:
            MissingRow: the file or the store was removed meanwhile; nothing is kept.
            StoreError: vectors of unequal length, or of another length than that model's were before.
            ReserveReached: the disk has no space for the file.
        """
        ...

    async def remove(self, owner: str, vector_store_id: str, file_id: str | None = None) -> None:
        """Remove a file, or the whole store; does nothing if there is none. Synced to disk when this returns.

        What a concurrent `add` has written of it so far is removed, too. `purge` frees the space.
        """
        ...

    async def purge(self) -> None:
        """Free the space of what was removed, replaced or never completed, for every owner, in small commits.

        For background work at the start and after a removal. What is being added is kept.
        """
        ...

    def refresh(self) -> AsyncIterator[int]:
        """Rewrite what an older version indexed, for every owner, in small commits. Yields how many files are left,
        first at the start and then after each file.

        For background work after the start. Files are found meanwhile, and vectors stay unchanged. An interrupted
        rewrite continues where it stopped.
        """
        ...

    async def set_attributes(self, owner: str, vector_store_id: str, file_id: str, attributes: Attributes) -> None:
        """Replace a file's attributes. Raises MissingRow if it is not indexed there."""
        ...

    async def search(self, owner: str, vector_store_ids: Sequence[str], query: Query) -> Found:
        """Return the best hits in these stores, each chunk of a file once. A store that does not exist is empty."""
        ...

    async def chunks(self, owner: str, vector_store_id: str, file_id: str) -> list[Chunk]:
        """Return a file's chunks in order, without vectors; empty if it is not indexed."""
        ...

    async def models(self, owner: str, vector_store_id: str) -> frozenset[str | None]:
        """Return the models that made the vectors of this store's files; None stands for files without vectors."""
        ...
