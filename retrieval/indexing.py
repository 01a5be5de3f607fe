"""Indexes one file of a vector store: reads, splits, embeds and stores it, in stages that owners share.

Invariants: each stage works in short blocks, and owners take turns between blocks, so that one owner's small file does
not wait for another's large one. A file that makes no progress fails alone, and its error states the limit and the
remedy. At most `_LARGE_FILES` large texts are in memory.
"""

import asyncio
import codecs
import logging
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Final

from chains.embeddings import Embedder
from documents.extraction import Extractor
from documents.pieces import Piece, cut
from store.ports import Blobs, Chunk, Patch, Row, Store, Vectors
from telemetry.blocks import cut_blocks
from telemetry.shares import INDEXING, Shares
from wire.errors import Missing, Unreadable
from wire.vector_stores import StoreFileEnd

__all__ = ["Indexer", "Limits"]

logger = logging.getLogger("threadhold.ingestion")

_READERS: Final = 4
"""Maximum processes that read files, each with up to 1 GB; one owner gets two of them."""

_LARGE_BYTES: Final = 1024 * 1024
_LARGE_FILES: Final = 4
"""Maximum texts of more than `_LARGE_BYTES` in memory; one owner gets two of them. Smaller ones do not wait."""

_CUT: Final = 256
"""Pieces that are cut in one block, a few milliseconds of work."""

_EMBEDDED: Final = 64
_EMBEDDED_CHARS: Final = 64 * 1024
"""Pieces that are embedded in one block, and their characters: at most a few seconds of one core."""

_MAX_TEXT_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one file. A stage without progress for `stall_s` ends. The time for a whole file has no limit, because
    a large file can wait for many turns. `write_s` is added per chunk; a file has at most `chunks` of them."""

    stall_s: float = 900.0
    write_s: float = 0.1
    chunks: int = 150_000


class Indexer:
    """Indexes files. The caller limits how many are indexed concurrently."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        vectors: Vectors,
        embedder: Embedder | None,
        extractor: Extractor,
        limits: Limits | None = None,
    ) -> None:
        """Without an embedder, files are found by their words only."""
        self._store = store
        self._blobs = blobs
        self._vectors = vectors
        self._embedder = embedder
        self._extractor = extractor
        self._limits = limits or Limits()
        self._readers = Shares(_READERS, portion=1)
        self._large = Shares(_LARGE_FILES, portion=1)

    async def index(self, store_file: Row) -> StoreFileEnd:
        """Index the file of `store_file`, and return the changes to the body of `store_file`.

        Raises Missing if the file is deleted, Unreadable, EmbeddingFailed, StoreError.
        """
        owner, file_id, store_id = store_file.owner, str(store_file.file_id), str(store_file.vector_store_id)
        file = await self._store.get("file", file_id, owner)
        if file is None:
            raise Missing("file", file_id)
        size = await self._extract(file)
        async with self._large.share(owner) if size > _LARGE_BYTES else nullcontext():
            sizes = store_file.body["chunking_strategy"]["static"]
            pieces = await self._cut(owner, await self._text(owner, file_id), sizes)
            if not pieces:
                raise Unreadable("The file has no text. Text in images is not read.", code="invalid_file")
            chunks, usage_bytes = await self._chunks(owner, pieces)
            del pieces
            model = None if self._embedder is None else self._embedder.name
            fresh = await self._store.get("vector_store_file", store_file.id, owner) or store_file
            attributes = fresh.body["attributes"]
            async with self._limited("Writing the index", self._limits.write_s * len(chunks)):
                await self._vectors.add(owner, store_id, file_id, chunks, model=model, attributes=attributes)
        return {"status": "completed", "usage_bytes": usage_bytes, "last_error": None}

    async def _extract(self, file: Row) -> int:
        """Write the text of a file to a blob, once for all its vector stores. Returns the text's size in bytes.

        Guesses and replacements, such as the encoding, become the file's `status_details`: its status in a vector
        store has no field for them, as `last_error` is null for a completed file.
        """
        name = f"{file.id}.text"
        done = await self._blobs.size(name)
        if done is not None:
            return done
        if await self._blobs.size(file.id) is None:
            raise Unreadable(
                "The contents of the file are no longer in this server's data folder.", code="server_error"
            )
        async with self._readers.share(file.owner), self._blobs.local_file(file.id) as path:
            extracted = await self._extractor.read(path, file.body["filename"])
            if extracted.note is not None:
                logger.info("file %s: %s", file.id, extracted.note)
                change = Patch("file", file.id, file.owner, {"status_details": extracted.note}, if_there=True)
                await self._store.commit([change], durable=False)
            async with self._blobs.writing(_MAX_TEXT_BYTES, "The file's text is too long.") as writing:
                for block in extracted.blocks:
                    await writing.write(block)
                return (await writing.keep(name)).bytes

    async def _text(self, owner: str, file_id: str) -> str:
        blocks = [block async for block in self._blobs.read(f"{file_id}.text")]
        # In blocks, because no other thread runs while a block is decoded.
        return await INDEXING.run(owner, lambda: "".join(codecs.iterdecode(blocks, "utf-8")))

    async def _cut(self, owner: str, text: str, sizes: dict[str, int]) -> list[Piece]:
        most = self._limits.chunks
        cutting = cut(text, max_tokens=sizes["max_chunk_size_tokens"], overlap_tokens=sizes["chunk_overlap_tokens"])
        pieces: list[Piece] = []
        while some := await INDEXING.run(owner, lambda: list(islice(cutting, _CUT))):
            pieces += some
            if len(pieces) > most:
                raise Unreadable(
                    f"The file has more than {most} chunks of {sizes['max_chunk_size_tokens']} tokens. Split the file, "
                    "or choose larger chunks in `chunking_strategy`.",
                    code="invalid_file",
                )
        return pieces

    async def _chunks(self, owner: str, pieces: Sequence[Piece]) -> tuple[list[Chunk], int]:
        """Return the pieces as chunks with their vectors, and their size in bytes."""
        chunks: list[Chunk] = []
        usage_bytes = 0
        for some in cut_blocks(pieces, lambda piece: len(piece.text), max_items=_EMBEDDED, max_length=_EMBEDDED_CHARS):
            vectors: Sequence[Sequence[float] | None] = [None] * len(some)
            if self._embedder is not None:
                async with self._limited(f"Embedding, with {len(chunks)} of {len(pieces)} chunks done,"):
                    embedded = await self._embedder.embed([piece.text for piece in some], owner=owner)
                vectors = [array("f", vector) for vector in embedded]  # a tenth of the memory of a list of floats
            else:
                await asyncio.sleep(0)
            for piece, vector in zip(some, vectors, strict=True):
                chunks.append(Chunk(len(chunks), piece.text, piece.start, piece.end, vector))
                usage_bytes += len(piece.text.encode()) + 4 * len(vector or ())
        return chunks, usage_bytes

    @asynccontextmanager
    async def _limited(self, stage: str, more_s: float = 0.0) -> AsyncIterator[None]:
        """Raise Unreadable if the block takes longer than `stall_s` and `more_s` seconds."""
        limit_s = self._limits.stall_s + more_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unreadable(
                f"{stage} made no progress for {limit_s:g} seconds. Split the file into smaller ones, or add it again "
                "when the server is less busy.",
                code="server_error",
            ) from None
