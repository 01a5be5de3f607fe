"""Texts made into vectors: what an embedder offers, whoever makes the vectors.

Law: vectors of one name are of one length and comparable by their cosine; nothing is computed or waited for on import.
"""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Makes vectors. `name` is remembered beside them and tells which are comparable."""

    @property
    def name(self) -> str:
        """The model, as the store remembers it."""
        ...

    @property
    def dimensions(self) -> int | None:
        """Length of a vector; None until the first one was made."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[list[float]]:
        """Return one vector a text, in order, each of length 1; `query` for what is looked for, not looked in.

        Raises:
            EmbeddingFailed: the model did not give vectors, also after the retries.
        """
        ...
