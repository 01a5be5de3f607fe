"""Indexes one file of a vector store: reads, splits, embeds and stores it, in stages that owners share.

Invariants: each stage works in short blocks, and owners alternate between blocks, so that one owner's small file does
not wait for another's large one. A file that makes no progress fails alone, and its error states the limit and the
remedy. At most `_LARGE_FILES` large texts are in memory; of vectors, only those of one block of each file are.
"""

import asyncio
import codecs
import logging
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Final

from chains.embeddings import Embedder
from documents.extraction import Extractor
from documents.text_splitter import split_text
from fairness.fair_limits import INDEXING, FairLimit
from fairness.work_blocks import split_into_blocks
from store.ports import Blobs, Chunk, Patch, Row, Store, Vectors
from wire.errors import MissingRow, UnreadableFile
from wire.vector_stores import StoreFileResult

__all__ = ["Indexer", "Limits"]

logger = logging.getLogger("threadhold.ingestion")

_READERS: Final = 4
"""Maximum processes that read files, each with up to 1 GB; one owner gets two of them."""

_LARGE_BYTES: Final = 1024 * 1024
_LARGE_FILES: Final = 4
"""Maximum texts of more than `_LARGE_BYTES` in memory; one owner gets two of them. Smaller ones do not wait."""

_CHUNKS_PER_BLOCK: Final = 256
"""Chunks that are split in one block: a few milliseconds of work."""

_EMBEDDED: Final = 64
_EMBEDDED_CHARS: Final = 64 * 1024
"""Pieces that are embedded in one block, and their characters: at most a few seconds of one core."""

_MAX_TEXT_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one file. It fails if a block of chunks takes `stall_s`. The time for a whole file has no limit,
    because a large file can wait for many other blocks. `chunks` is the maximum number of chunks."""

    stall_s: float = 900.0
    chunks: int = 150_000


@dataclass(slots=True)
class _Progress:
    """The chunks that were embedded so far, and their size in bytes."""

    chunks: int = 0
    usage_bytes: int = 0


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
        self._readers = FairLimit(_READERS, portion=1)
        self._large = FairLimit(_LARGE_FILES, portion=1)

    async def index(self, store_file: Row) -> StoreFileResult:
        """Index the file of `store_file`, and return the changes to the body of `store_file`.

        Raises MissingRow if the file is deleted, UnreadableFile, EmbeddingFailed, StoreError.
        """
        owner, file_id = store_file.owner, str(store_file.file_id)
        file = await self._store.get("file", file_id, owner)
        if file is None:
            raise MissingRow("file", file_id)
        size = await self._extract(file)
        async with self._large.slot(owner) if size > _LARGE_BYTES else nullcontext():
            sizes = store_file.body["chunking_strategy"]["static"]
            text = await self._text(owner, file_id)
            spans = await self._split(owner, text, sizes)
            if not spans:
                raise UnreadableFile("The file has no text. Text in images is not read.", code="invalid_file")
            progress = _Progress()
            await self._add(store_file, text, spans, progress)
        return {"status": "completed", "usage_bytes": progress.usage_bytes, "last_error": None}

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
            raise UnreadableFile(
                "The contents of the file are no longer in this server's data folder.", code="server_error"
            )
        async with self._readers.slot(file.owner), self._blobs.local_file(file.id) as path:
            extracted = await self._extractor.read(path, file.body["filename"])
            if extracted.note is not None:
                logger.info("file %s: %s", file.id, extracted.note)
                change = Patch("file", file.id, file.owner, {"status_details": extracted.note}, if_exists=True)
                await self._store.commit([change], durable=False)
            async with self._blobs.create(_MAX_TEXT_BYTES, "The file's text is too long.") as writer:
                for block in extracted.blocks:
                    await writer.write(block)
                return (await writer.commit(name)).bytes

    async def _text(self, owner: str, file_id: str) -> str:
        blocks = [block async for block in self._blobs.read(f"{file_id}.text")]
        # In blocks, because no other thread runs while a block is decoded.
        return await INDEXING.run(owner, lambda: "".join(codecs.iterdecode(blocks, "utf-8")))

    async def _split(self, owner: str, text: str, sizes: dict[str, int]) -> Sequence[tuple[int, int]]:
        """Return the start and end of each piece."""
        maximum = self._limits.chunks
        chunks = split_text(
            text, max_tokens=sizes["max_chunk_size_tokens"], overlap_tokens=sizes["chunk_overlap_tokens"]
        )

        def some() -> list[tuple[int, int]]:
            return [(chunk.start, chunk.end) for chunk in islice(chunks, _CHUNKS_PER_BLOCK)]

        spans: list[tuple[int, int]] = []
        while found := await INDEXING.run(owner, some):
            spans += found
            if len(spans) > maximum:
                raise UnreadableFile(
                    f"The file has more than {maximum} chunks of {sizes['max_chunk_size_tokens']} tokens. Split the "
                    "file, or choose larger chunks in `chunking_strategy`.",
                    code="invalid_file",
                )
        return spans

    async def _add(self, store_file: Row, text: str, spans: Sequence[tuple[int, int]], progress: _Progress) -> None:
        """Embed and write one block after the other. Raises UnreadableFile if a block takes longer than `stall_s`."""
        owner, store_id = store_file.owner, str(store_file.vector_store_id)
        limit_s = self._limits.stall_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                fresh = await self._store.get("vector_store_file", store_file.id, owner) or store_file
                async with aclosing(self._embedded(owner, text, spans, progress, limit)) as blocks:
                    await self._vectors.add(
                        owner,
                        store_id,
                        str(store_file.file_id),
                        blocks,
                        model=None if self._embedder is None else self._embedder.name,
                        attributes=fresh.body["attributes"],
                        total=len(spans),
                    )
        except TimeoutError:
            if not limit.expired():
                raise
            raise UnreadableFile(
                f"Indexing made no progress for {limit_s:g} seconds, with {progress.chunks} of {len(spans)} chunks "
                "done. Split the file into smaller ones, or add it again when the server is less busy.",
                code="server_error",
            ) from None

    async def _embedded(
        self,
        owner: str,
        text: str,
        spans: Sequence[tuple[int, int]],
        progress: _Progress,
        limit: asyncio.Timeout,
    ) -> AsyncGenerator[Sequence[Chunk]]:
        """Yield the chunks with their vectors, in blocks; each block has the whole time limit."""
        for some in split_into_blocks(spans, _length, max_items=_EMBEDDED, max_length=_EMBEDDED_CHARS):
            texts = [text[start:end] for start, end in some]
            vectors: Sequence[Sequence[float] | None] = [None] * len(some)
            if self._embedder is not None:
                embedded = await self._embedder.embed(texts, owner=owner)
                vectors = [array("f", vector) for vector in embedded]  # a tenth of the memory of a list of floats
            else:
                await asyncio.sleep(0)
            at = progress.chunks
            block = [
                Chunk(at + number, piece, *span, vector)
                for number, (piece, span, vector) in enumerate(zip(texts, some, vectors, strict=True))
            ]
            progress.chunks += len(block)
            progress.usage_bytes += sum(len(each.text.encode()) + 4 * len(each.vector or ()) for each in block)
            yield block
            limit.reschedule(asyncio.get_running_loop().time() + self._limits.stall_s)


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]
