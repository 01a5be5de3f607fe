"""Measures how well searches find passages, by words, by meaning, and by both: `python -m bench.retrieval`.

The test set is made from installed documentation: the summary of a docstring is the question, and the rest is the
passage that answers it. There are two corpora: Python's standard library, and packages that the server uses. Nothing is
downloaded. Recall@5 is the share of questions whose passage is among the first five hits; nDCG@10 also counts its rank
among the first ten. The index is the store's own, so the results apply to a run's file search.
`docs/decisions/search-ranking.md` has them.
"""

import argparse
import ast
import asyncio
import math
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chains.minilm import MiniLm
from store.ports import Chunk, Query, Vectors
from store.sqlite.store import open_store

PACKAGES = ("aiohttp", "click", "fastapi", "httpx", "jsonschema", "langchain_core", "langgraph", "numpy", "pydantic")
SKIPPED = frozenset({"idlelib", "lib2to3", "site-packages", "test", "tests"})
MIN_CHARS = 200  # of a passage
WORDS = (4, 30)  # of a question
DEPTH = 10
OWNER, STORE = "bench", "vs_bench"


@dataclass(frozen=True)
class Case:
    """A question, and the passage that answers it."""

    question: str
    passage: str


def read_cases(folder: Path) -> Iterator[Case]:
    """Yield the cases of every module below the folder, each question and passage once."""
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        if SKIPPED.intersection(path.relative_to(folder).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            summary, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            question, rest = " ".join(summary.split()), rest.strip()
            # Signatures and doctests are not questions.
            if "(" in question or ">>>" in question or not WORDS[0] <= len(question.split()) <= WORDS[1]:
                continue
            if len(rest) >= MIN_CHARS and not {question, rest[:120]} & seen:
                seen |= {question, rest[:120]}
                yield Case(question, f"{path.stem}.{getattr(node, 'name', '')}\n{rest}")


def read_corpora(every: int) -> dict[str, list[Case]]:
    """Return the corpora, reduced to every `every`th case; of the packages, to half of these."""
    packages = Path(sysconfig.get_path("purelib"))
    return {
        "standard library": list(read_cases(Path(sysconfig.get_path("stdlib"))))[::every],
        "packages": [case for name in PACKAGES for case in read_cases(packages / name)][:: 2 * every],
    }


async def measure(vectors: Vectors, cases: Sequence[Case], queries: Sequence[Query]) -> tuple[float, float]:
    """Return recall@5 and nDCG@10."""
    found_in_five, gain = 0, 0.0
    for number, query in enumerate(queries):
        hits = (await vectors.search(OWNER, [STORE], query)).hits
        rank = next((rank for rank, hit in enumerate(hits) if hit.file_id == str(number)), None)
        if rank is not None:
            found_in_five += rank < 5
            gain += 1 / math.log2(rank + 2)
    return found_in_five / len(cases), gain / len(cases)


async def compare(name: str, cases: Sequence[Case], weights: Sequence[float]) -> None:
    """Index a corpus and print a line for each kind of search."""
    embedder = MiniLm()
    store = await open_store()
    try:
        started_at = time.perf_counter()
        passages = await embedder.embed([case.passage for case in cases])
        speed = len(cases) / (time.perf_counter() - started_at)
        for number, (case, vector) in enumerate(zip(cases, passages, strict=True)):
            chunk = Chunk(0, case.passage, 0, len(case.passage), vector)
            await store.vectors.add(OWNER, STORE, str(number), [chunk], model=embedder.name)
        asked = await embedder.embed([case.question for case in cases])
        print(f"\n{name}: {len(cases)} questions and passages; {speed:.0f} passages embedded a second")
        print(f"{'':24}{'recall@5':>10}{'nDCG@10':>10}")
        searches = {"words": 0.0, "meaning": 1.0, "both": None} | {f"both, weight {each}": each for each in weights}
        for kind, weight in searches.items():
            queries = [
                Query(case.question, vector, embedder.name, limit=DEPTH, weight=weight)
                for case, vector in zip(cases, asked, strict=True)
            ]
            recall, ndcg = await measure(store.vectors, cases, queries)
            print(f"{kind:24}{recall:10.3f}{ndcg:10.3f}", flush=True)
    finally:
        await store.close()
        await embedder.close()


def main() -> None:
    """Measure both corpora, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="use every Nth question only (1)")
    parser.add_argument("--weights", type=float, nargs="*", default=(), help="more weights of meaning to try")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}")
    for name, cases in read_corpora(options.every).items():
        asyncio.run(compare(name, cases, options.weights))


if __name__ == "__main__":
    main()
