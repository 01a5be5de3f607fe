"""Makes a run's context: its tools, its thread's history, the model, and what executes its tool calls.

A context is made each time a process starts or continues a run. None of it is checkpointed.
"""

import asyncio
from typing import Any, Final

from chains.ports import ChatBackend
from graphs.active_run import ActiveRun
from graphs.history import MAX_CHARS, History, load_history
from graphs.machine.metrics import RunMetrics
from graphs.machine.spec import RunSpec
from graphs.machine.state import RunContext
from graphs.run_memory import history_memory, object_memory, picture_memory
from graphs.tools.caller import Caller
from graphs.tools.feasible import check_schemas
from graphs.tools.file_search import FileSearch
from graphs.tools.resources import Resources
from graphs.tools.toolset import ToolSet, make_toolset
from retrieval.images import Images
from store.ports import Page, Row, Store
from wire.runs import RunCreate, ThreadRunCreate

__all__ = ["RunContexts"]

_CHARS_PER_TOKEN: Final = 8
"""Characters read for each token of context: more than any language needs, so fitting the prompt decides."""


_SEARCH_TOKENS: Final = 16_000
"""Maximum tokens of passages that one search returns (OpenAI's limit). A run gets a third of its model's context if
that is less, and a third of this limit if the context is unknown."""


class RunContexts:
    """Makes run contexts."""

    def __init__(
        self,
        store: Store,
        model: ChatBackend,
        caller: Caller,
        max_tool_rounds: int,
        searcher: FileSearch | None = None,
        pictures: Images | None = None,
    ) -> None:
        """Without a searcher, `file_search` is not offered; without pictures, no `image_file` part is converted."""
        self.max_tool_rounds = max_tool_rounds
        self.metrics = RunMetrics()
        self._store = store
        self._model = model
        self._caller = caller
        self._searcher = searcher
        self._pictures = pictures

    async def toolset(self, row: Row) -> ToolSet:
        """Build the tools of a run; a child process parses the documents. Raises InvalidRequest."""
        run = row.body
        resources = Resources(
            owner=row.owner,
            caller=self._caller,
            search=self._searcher,
            vector_store_ids=row.private.get("vector_store_ids") or (),
            passage_chars=lambda: self._passage_chars(run),
        )
        return await make_toolset(row.private["tools"], resources)

    async def check(self, request: RunCreate | ThreadRunCreate, run: dict[str, Any]) -> None:
        """Refuse uncheckable schemas of the request itself; the assistant's schemas were checked before. Raises
        Problem."""
        await check_schemas(
            () if request.tools is None else run["tools"],
            None if request.response_format is None else run["response_format"],
        )

    async def history(
        self, run: dict[str, Any], owner: str, *, own: str | None = None, first: Page | None = None
    ) -> History:
        """Read the thread's messages for this run, oldest first, without those of the run `own`."""
        limit = self._model.context_limit(run["model"])
        strategy = run["truncation_strategy"]
        return await load_history(
            self._store,
            owner,
            run["thread_id"],
            run_id=own,
            max_chars=MAX_CHARS if limit is None else min(MAX_CHARS, limit * _CHARS_PER_TOKEN),
            last=strategy.get("last_messages") if strategy["type"] == "last_messages" else None,
            first=first,
        )

    async def memory(self, live: ActiveRun, history: History) -> int:
        """Return the bytes that a run with this history holds, including its object and the pictures that it shows."""
        pictures = 0 if self._pictures is None else await self._pictures.measure(live.owner, history.messages)
        return history_memory(history.messages) + picture_memory(pictures) + object_memory(live.size)

    async def again(self, live: ActiveRun, row: Row, toolset: ToolSet) -> RunContext:
        """Read the history of a run that continues, and return its context. Sets the memory of `live`."""
        history = await self.history(row.body, row.owner, own=row.id)
        live.history_memory = await self.memory(live, history)
        return self.context(live, row.private, toolset, history)

    def context(self, live: ActiveRun, private: dict[str, Any], toolset: ToolSet, history: History) -> RunContext:
        """Make a run's context; `private` is its row's."""

        seen: list[dict[str, Any]] = []
        looking = asyncio.Lock()

        async def messages() -> list[dict[str, Any]]:
            if self._pictures is None:
                return history.messages
            async with looking:  # concurrent tool calls ask for the history concurrently
                if not seen:
                    seen.extend(await self._pictures.show(live.owner, history.messages))
            return seen

        return RunContext(
            spec=RunSpec.of_run(live.run, sampling=private["sampling"], max_tool_rounds=self.max_tool_rounds),
            model=self._model,
            tools=toolset,
            history=messages,
            emit=live.on_part,
            count_usage=live.recorder.count_usage,
            backpressure=live.backpressure,
            note_output=live.note_output,
            reserve=live.reserve,
            clipped=history.clipped,
            metrics=self.metrics,
        )

    def _passage_chars(self, run: dict[str, Any]) -> int:
        """Return how many characters of passages a search can add: at most a third of the model's context."""
        model, budget = run["model"], run["max_prompt_tokens"]
        limit = self._model.context_limit(model) or _SEARCH_TOKENS
        tokens = min(_SEARCH_TOKENS, limit // 3, *(() if budget is None else (budget // 3,)))
        return int(tokens / self._model.tokens_per_char(model))
