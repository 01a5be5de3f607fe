"""Turns texts into vectors: the interface of an embedder, and the embedder that uses an upstream.

Invariant: vectors of one name have the same length and are comparable by their cosine. An import computes nothing, and
waits for nothing.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Protocol, TypeGuard

from chains.embedding_json import read_embeddings
from chains.upstream import Upstream
from fairness.fair_limits import FairLimit
from wire.errors import EmbeddingFailed, RunError

__all__ = ["Embedder", "UpstreamEmbedder"]

_BATCH: Final = 64
"""Texts per request."""

_BATCH_CHARS: Final = 200_000
"""Characters per request, about 50,000 tokens; OpenAI accepts 300,000 tokens."""

_PARALLEL: Final = 8
"""Concurrent requests to the upstream, in addition to one that each owner can always have; a lone owner gets four."""

_MAX_DIMENSIONS: Final = 16_384
"""Maximum numbers of a vector. The store's memory and commits are limited for vectors up to this length."""

_MIN_TEXT_CHARS: Final = 200
"""Characters below which a text is not halved again if the upstream refuses it as too long."""

_TOO_LONG: Final = ("too large to process", "too long", "too large", "context", "maximum", "token")


class Embedder(Protocol):
    """Makes vectors. `name` is stored with them, and identifies comparable ones."""

    @property
    def name(self) -> str:
        """The model's name in the store."""
        ...

    @property
    def dimensions(self) -> int | None:
        """The length of a vector; None until the first one was made."""
        ...

    async def embed(self, texts: Sequence[str], *, owner: str = "", urgent: bool = False) -> list[list[float]]:
        """Return one vector per text, in order, each of length 1. Cancelling stops the work.

        Owners are scheduled fairly. `urgent` is for a query that a client waits for: it goes before files.

        Raises:
            EmbeddingFailed: the model returned no vectors, even after the retries.
        """
        ...

    def weight(self, query: str, /) -> float | None:
        """Return the weight of vectors in the ranking for a query, 0 to 1; None for the default."""
        ...

    async def close(self) -> None:
        """Release the resources that only the embedder uses."""
        ...


class UpstreamEmbedder:
    """The model `name` at the upstream's `/embeddings`.

    A text that is too long is halved until it is not; its vector is the normalized sum of the halves' vectors.
    """

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.name = model
        self.dimensions: int | None = None
        self.upstream = upstream
        self._requests = FairLimit(_PARALLEL, minimum=1, portion=0.6)

    async def embed(self, texts: Sequence[str], *, owner: str = "", urgent: bool = False) -> list[list[float]]:
        """See `Embedder.embed`."""
        vectors: list[list[float]] = []
        for batch in _batches(texts):
            vectors += await self._embed(batch, owner, urgent)
        return vectors

    def weight(self, _query: str, /) -> float | None:
        """See `Embedder.weight`: the model is assumed to support every language."""
        return None

    async def close(self) -> None:
        """Do nothing: the upstream is shared."""

    async def _embed(self, batch: Sequence[str], owner: str, urgent: bool) -> list[list[float]]:
        # OpenAI refuses an empty text.
        texts = [text if text.strip() else "." for text in batch]
        try:
            async with self._requests.slot(owner, urgent=urgent):
                vectors = await self.upstream.embed(self.name, texts, partial(_unit_vectors, len(batch), self.name))
        except RunError as error:
            if not any(mark in error.message for mark in _TOO_LONG):
                raise EmbeddingFailed(error.message) from error
            return await self._embed_shorter(batch, owner, urgent, error)
        for vector in vectors:
            if self.dimensions is None:
                self.dimensions = len(vector)
            if len(vector) != self.dimensions:
                raise EmbeddingFailed(
                    f"`{self.name}` returned a vector of {len(vector)} numbers after others of {self.dimensions}."
                )
        return vectors

    async def _embed_shorter(
        self, batch: Sequence[str], owner: str, urgent: bool, error: RunError
    ) -> list[list[float]]:
        if len(batch) > 1:
            return [vector for text in batch for vector in await self._embed([text], owner, urgent)]
        (text,) = batch
        if len(text) <= _MIN_TEXT_CHARS:
            raise EmbeddingFailed(error.message) from error
        middle = len(text) // 2
        left, right = [(await self._embed([half], owner, urgent))[0] for half in (text[:middle], text[middle:])]
        return [_unit([one + other for one, other in zip(left, right, strict=True)])]


def _batches(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    chars = 0
    for text in texts:
        if not batches or len(batches[-1]) == _BATCH or chars + len(text) > _BATCH_CHARS:
            batches.append([])
            chars = 0
        batches[-1].append(text)
        chars += len(text)
    return batches


def _unit_vectors(count: int, model: str, body: bytes) -> list[list[float]]:
    """Return the vectors of an answer with length 1: processor time, up to 0.1 s.

    Raises EmbeddingFailed, or ValueError for a body that is not JSON.
    """
    received = _vectors(read_embeddings(body), count)
    if (longest := max(map(len, received))) > _MAX_DIMENSIONS:
        raise EmbeddingFailed(
            f"`{model}` returned a vector of {longest} numbers; at most {_MAX_DIMENSIONS} are supported. "
            "Set EMBEDDINGS_MODEL to another model."
        )
    return [_unit(vector) for vector in received]


def _vectors(answer: object, count: int) -> list[Sequence[float]]:
    """Read `{"data": [{"index", "embedding"}]}`. Raises EmbeddingFailed for anything else."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != count:
        found = f"{len(data)} vectors" if isinstance(data, list) else "no list of vectors"
        raise EmbeddingFailed(
            f"The upstream's `/embeddings` returned {found} for {count} texts. Check EMBEDDINGS_MODEL."
        )
    entries = sorted(enumerate(data), key=lambda item: _index(item[1], item[0]))
    vectors: list[object] = [entry.get("embedding") if isinstance(entry, dict) else None for _, entry in entries]
    if not _are_vectors(vectors):
        raise EmbeddingFailed("The upstream's `/embeddings` returned something other than lists of numbers.")
    return vectors


def _index(entry: object, position: int) -> int:
    index = entry.get("index") if isinstance(entry, dict) else None
    return index if isinstance(index, int) else position


def _are_vectors(found: list[object]) -> TypeGuard[list[Sequence[float]]]:
    return all(isinstance(vector, list | array) and vector and _is_finite(vector) for vector in found)


def _is_finite(vector: Iterable[object]) -> bool:
    return all(isinstance(number, int | float) and math.isfinite(number) for number in vector)


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return [number / length for number in vector]
