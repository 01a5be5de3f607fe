"""Measures searches among many chunks: `python -m bench.index` (100,000 chunks; filling takes some minutes).

Chunks are 800 tokens of generated text whose word frequencies follow Zipf's law, as in a language; vectors are random.
The index is the store's own, in a file on disk. A question has six words: common, less common and rare ones.
"""

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from store.ports import Chunk, Query, Vectors
from store.sqlite.store import open_store

WORDS, WORDS_A_CHUNK, CHUNKS_A_FILE = 60_000, 600, 500
DIMENSIONS = 384
OWNER, STORE, MODEL = "bench", "vs_bench", "random"


class Language:
    """Generates texts in which the frequency of a word depends on its rank in the list."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = [f"w{number:x}" for number in range(WORDS)]
        self._cumulative = list(itertools.accumulate(1 / (rank + 1) for rank in range(WORDS)))

    def text(self, words: int) -> str:
        """Return a text of so many words."""
        return " ".join(self._random.choices(self._words, cum_weights=self._cumulative, k=words))

    def question(self) -> str:
        """Return six words: two of the hundred most common, two of the next thousands, two rare ones."""
        bounds = (0, 100), (100, 5000), (5000, WORDS)
        return " ".join(self._words[self._random.randrange(*bound)] for bound in bounds for _ in range(2))


async def fill(vectors: Vectors, language: Language, chunks: int) -> float:
    """Index so many chunks; return the seconds that it took, not counting the generation of the texts."""
    spent = 0.0
    for start in range(0, chunks, CHUNKS_A_FILE):
        made = np.random.default_rng(start).standard_normal((CHUNKS_A_FILE, DIMENSIONS)).tolist()
        texts = [language.text(WORDS_A_CHUNK) for _ in made]
        pieces = [
            Chunk(at, text, 0, len(text), vector) for at, (text, vector) in enumerate(zip(texts, made, strict=True))
        ]
        started_at = time.perf_counter()
        await vectors.add(OWNER, STORE, f"file-{start}", pieces, model=MODEL)
        spent += time.perf_counter() - started_at
    return spent


async def search(vectors: Vectors, language: Language, times: int, weight: float | None) -> list[float]:
    """Return how long each search took, in milliseconds."""
    numbers = np.random.default_rng(1)
    took = []
    for _ in range(times):
        query = Query(language.question(), numbers.standard_normal(DIMENSIONS).tolist(), MODEL, weight=weight)
        started_at = time.perf_counter()
        found = await vectors.search(OWNER, [STORE], query)
        took.append(1000 * (time.perf_counter() - started_at))
        assert found.hits
    return took


async def measure(folder: Path, chunks: int, times: int) -> None:
    """Fill an index, search it, and print the times."""
    language = Language(seed=7)
    path = folder / "bench.db"
    store = await open_store(path)
    try:
        spent = await fill(store.vectors, language, chunks)
        size = path.stat().st_size / 1e6
        print(f"{chunks} chunks indexed in {spent:.0f} s ({1000 * spent / chunks:.1f} ms each), {size:.0f} MB")
        (first,) = await search(store.vectors, language, 1, None)
        print(f"first search, which loads the vectors: {first:.0f} ms")
        for name, weight in (("both", None), ("words", 0.0), ("meaning", 1.0)):
            took = sorted(await search(store.vectors, language, times, weight))
            p95 = took[int(len(took) * 0.95)]
            print(f"{name:8} median {statistics.median(took):6.1f} ms   p95 {p95:6.1f} ms", flush=True)
    finally:
        await store.close()


def main() -> None:
    """Measure in a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m bench.index", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="threadhold-bench-") as folder:
        asyncio.run(measure(Path(folder), options.chunks, options.times))


if __name__ == "__main__":
    main()
