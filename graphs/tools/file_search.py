"""The tool `file_search`: the function that the model is offered, and the search of the run's vector stores.

Invariants: only the vector stores of the run's assistant and thread are searched, with the run's owner. Errors are text
for the model and fail no run. Each passage has a marker that is unique in the run.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from chains.chat_types import FunctionSpec, FunctionTool, JsonSchema
from chains.embeddings import Embedder
from chains.prompts import DEFAULT_PROMPTS, NO_FILES, PARTLY_INDEXED, SEARCH_UNAVAILABLE, Prompts, fill
from graphs.machine.stream_parts import Call
from graphs.tools.names import free_name
from graphs.tools.port import CallInput, ItemChange, Kind, Offer, Outcome, PreviewCall, StepCalls, Tools
from graphs.tools.resources import Resource, ToolContext, ToolDeps, WaitForIndex
from retrieval.citations import marker
from retrieval.grounding import Source
from retrieval.vector_store_drafts import renew_expiry
from store.ports import Hit, Query, Row, Store, Vectors
from wire.errors import EmbeddingFailed, InvalidRequest, StoreError
from wire.items import FileSearchCall, FileSearchResult, search_item_id
from wire.json import JsonObject, UncheckedJson

__all__ = ["FILE_SEARCH", "FILE_SEARCH_CALLS", "SEARCH", "FileSearch", "Findings", "SearchTool", "query_of"]

logger = logging.getLogger("threadhold.tools")

_MAX_RESULTS: Final = 20
"""OpenAI's default. How many of them the model gets also depends on its context."""

_INDEXED_S: Final = 60.0
"""How long a search waits for files that are being indexed, as with OpenAI."""

_MAX_QUERY_CHARS: Final = 4000
_RANKER: Final = "default_2024_08_21"

_ASKED_CHARS: Final = 4_000
"""Maximum characters of the user's question that are kept with each passage."""

_LAST: Final = 1_000_000
"""The position of the function: after all other tools."""


@dataclass(frozen=True, slots=True)
class SearchTool:
    """A run's `file_search`, with the name that the model is offered."""

    name: str
    max_results: int = _MAX_RESULTS
    threshold: float = 0.0
    ranker: str = _RANKER

    @classmethod
    def of(cls, tool: JsonObject, name: str) -> "SearchTool":
        """Return the options of a stored tool."""
        options: JsonObject = tool.get("file_search") or {}
        ranking: JsonObject = options.get("ranking_options") or {}
        ranker = ranking.get("ranker")
        return cls(
            name,
            options.get("max_num_results") or _MAX_RESULTS,
            ranking.get("score_threshold") or 0.0,
            _RANKER if ranker in (None, "auto") else ranker,
        )

    def spec(self, prompts: Prompts = DEFAULT_PROMPTS) -> FunctionTool:
        """Return the function that the model is offered."""
        query = {"type": "string", "description": "What to look for, in words that the files may use"}
        parameters: JsonSchema = {"type": "object", "properties": {"query": query}, "required": ["query"]}
        about = FunctionSpec(name=self.name, description=prompts.file_search, parameters=parameters)
        return {"type": "function", "function": about}

    def ranking_options(self) -> JsonObject:
        """Return the ranking options as a step shows them."""
        return {"ranker": self.ranker, "score_threshold": self.threshold}


def _offer(tools: Tools, context: ToolContext, taken: set[str]) -> list[Offer]:
    """Offer a search, if the run has vector stores."""
    search = context.get(SEARCH)
    if search is None or not context.vector_store_ids:
        return []
    options = SearchTool.of(tools[0][1], free_name("file_search", taken))
    return [Offer(_LAST, options.spec(search.prompts), _RunSearch(options, context, search))]


def _item(call: Call) -> FileSearchCall:
    return FileSearchCall(
        id=search_item_id(call["id"]),
        type="file_search_call",
        status="in_progress",
        queries=[query_of(call["arguments"])],
        results=None,
    )


def _item_change(call_id: str, shown: JsonObject, contents: list[UncheckedJson] | None) -> ItemChange:
    results = [
        FileSearchResult(
            file_id=each["file_id"],
            filename=each["file_name"],
            score=each["score"],
            text="".join(part["text"] for part in content),
            attributes={},
        )
        for each, content in zip(shown["results"], contents or (), strict=True)
    ]
    return ItemChange(search_item_id(call_id), {"status": "completed", "results": results})


def _with_contents(shown: JsonObject, contents: list[UncheckedJson]) -> JsonObject:
    results = [{**each, "content": content} for each, content in zip(shown["results"], contents, strict=True)]
    return {**shown, "results": results}


FILE_SEARCH_CALLS: Final = StepCalls(
    start=lambda _: {},
    show=lambda _: {},
    item=_item,
    item_change=_item_change,
    has_outcome=bool,
    with_contents=_with_contents,
    waiting_item=search_item_id,
)
"""Searches: results with files and scores, but neither the query nor the output, as with OpenAI."""


@dataclass(frozen=True, slots=True)
class _RunSearch:
    """The search of a run's vector stores."""

    options: SearchTool
    context: ToolContext
    search: "FileSearch"
    step_type: str = "file_search"
    label: str = "file_search"
    preview: PreviewCall | None = None
    returns_passages: bool = True

    @property
    def name(self) -> str:
        """The name that the model is offered."""
        return self.options.name

    def arguments_for(self, question: str, /) -> str | None:
        """Return a search for the question: small models cannot decide whether to search."""
        return json.dumps({"query": question}, ensure_ascii=False)

    async def call(self, call: Call, given: CallInput, /) -> Outcome:
        """Search. The output and `passages` both contain the passages, so each can take a quarter of the bytes."""
        context = self.context
        found = await self.search.search(
            context.owner,
            context.vector_store_ids,
            call["arguments"],
            self.options,
            number=given.number,
            chars=min(given.max_bytes // 4, context.passage_chars()),
        )
        question = (await given.question())[:_ASKED_CHARS]
        shown = [{key: value for key, value in each.items() if key != "content"} for each in found.results]
        return Outcome(
            found.output,
            details={"ranking_options": self.options.ranking_options(), "results": shown},
            contents=[each["content"] for each in found.results],
            passages={
                number: {**source, "asked": f"{source['asked']}\n{question}"}
                for number, source in found.sources.items()
            },
        )


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of one search: text for the model, `results` as a step shows them (with content), and the passages
    by the numbers in their markers (`search:passage`)."""

    output: str
    results: list[JsonObject] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)


class FileSearch:
    """Searches for runs. `wait_for_index` can wait for files that are being indexed; `clock` returns Unix seconds."""

    def __init__(
        self,
        store: Store,
        vectors: Vectors,
        embedder: Embedder | None,
        *,
        wait_for_index: WaitForIndex | None = None,
        prompts: Prompts = DEFAULT_PROMPTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without an embedder, passages are found by their words only."""
        self.prompts = prompts
        self._store = store
        self._vectors = vectors
        self._embedder = embedder
        self._wait_for_index = wait_for_index
        self._clock = clock

    async def search(
        self, owner: str, vector_store_ids: Sequence[str], arguments: str, tool: SearchTool, *, number: int, chars: int
    ) -> Findings:
        """Search for the model. `number` goes into the markers; the passages have at most `chars` characters."""
        query = query_of(arguments)
        if not query:
            return Findings("`query` is missing: give what to look for.")
        try:
            stores, note = await self._stores(owner, vector_store_ids)
            if not stores:
                return Findings(note)
            hits = await self._hits(owner, stores, query, tool)
            names = await self._names(owner, hits)
        except (StoreError, InvalidRequest) as error:
            logger.warning("a file search failed: %s", error.message)
            return Findings(SEARCH_UNAVAILABLE)
        return self._findings(_within(hits, names, chars), names, number, query, note)

    async def _stores(self, owner: str, ids: Sequence[str]) -> tuple[list[str], str]:
        """Return the vector stores that can be searched, with renewed expiry, and a note for the model."""
        rows = await asyncio.gather(*(self._store.get("vector_store", id, owner) for id in ids))
        found = [row for row in rows if row is not None and row.body["status"] != "expired"]
        if not found:
            return [], NO_FILES
        now = int(self._clock())
        if used := [change for row in found for change in renew_expiry(row, now=now)]:
            await self._store.commit(used, durable=False)
        searched = [row.id for row in found]
        whole = self._wait_for_index is None or await self._wait_for_index(searched, _INDEXED_S)
        return searched, "" if whole else PARTLY_INDEXED

    async def _hits(self, owner: str, stores: Sequence[str], text: str, tool: SearchTool) -> list[Hit]:
        vector, model, weight = None, None, None
        if self._embedder is not None:
            try:
                (vector,) = await self._embedder.embed([text], owner=owner, urgent=True)
                model, weight = self._embedder.name, self._embedder.weight(text)
            except EmbeddingFailed as error:
                logger.warning("a file search uses words only: %s", error.message)
        query = Query(text, vector, model, limit=tool.max_results, threshold=tool.threshold, weight=weight)
        found = await self._vectors.search(owner, stores, query)
        if found.by_words_only and vector is not None:
            logger.info("%d files are found by words only: they have no vectors of %s", len(found.by_words_only), model)
        return found.hits

    async def _names(self, owner: str, hits: Sequence[Hit]) -> dict[str, str]:
        """Return the names of the files that still exist."""
        ids = list(dict.fromkeys(hit.file_id for hit in hits))
        rows: list[Row | None] = await asyncio.gather(*(self._store.get("file", id, owner) for id in ids))
        return {row.id: row.body["filename"] for row in rows if row is not None}

    def _findings(
        self, passages: Sequence[tuple[Hit, str]], names: dict[str, str], number: int, query: str, note: str
    ) -> Findings:
        if not passages:
            return Findings("\n".join(filter(None, (self.prompts.no_passages, note))))
        shown = [
            f"{marker(number, index)} {json.dumps(names[hit.file_id], ensure_ascii=False)}\n{text.strip()}"
            for index, (hit, text) in enumerate(passages)
        ]
        output = fill(self.prompts.passages, passages="\n\n".join(shown), marker=marker(number, 0))
        results = [
            {
                "file_id": hit.file_id,
                "file_name": names[hit.file_id],
                "score": hit.score,
                "content": [{"type": "text", "text": text}],
            }
            for hit, text in passages
        ]
        sources = {
            f"{number}:{index}": Source(file_id=hit.file_id, text=text, asked=query)
            for index, (hit, text) in enumerate(passages)
        }
        return Findings("\n\n".join(filter(None, (output, note))), results, sources)


@asynccontextmanager
async def _open_search(deps: ToolDeps) -> AsyncIterator[FileSearch | None]:
    if deps.vectors is None:
        yield None
    else:
        yield FileSearch(
            deps.store, deps.vectors, deps.embedder, wait_for_index=deps.wait_for_index, prompts=deps.prompts
        )


SEARCH: Final = Resource(_open_search)
"""The search, in a process that indexes files."""

FILE_SEARCH: Final = Kind(_offer, resource=SEARCH, step_calls=FILE_SEARCH_CALLS)
"""The search of files."""


def query_of(arguments: str) -> str:
    """Return the query in a call's arguments; empty if there is none."""
    try:
        given = json.loads(arguments)
    except ValueError:
        return ""
    query = given.get("query") if isinstance(given, dict) else None
    if not isinstance(query, str):
        return ""
    # JSON can contain half a surrogate pair, which cannot be encoded as text.
    return query.encode("utf-8", "replace").decode().strip()[:_MAX_QUERY_CHARS]


def _within(hits: Sequence[Hit], names: dict[str, str], chars: int) -> list[tuple[Hit, str]]:
    """Return the best hits that fit into `chars`; the first one is cut if it alone does not fit."""
    kept: list[tuple[Hit, str]] = []
    for hit in hits:
        if hit.file_id not in names:
            continue
        text = hit.chunk.text if kept else hit.chunk.text[:chars]
        chars -= len(text)
        if chars < 0:
            break
        kept.append((hit, text))
    return kept
