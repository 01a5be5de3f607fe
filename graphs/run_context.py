"""Makes a run's context: its tools, its thread's history, the model, and what executes its tool calls.

A context is made each time a process starts or continues a run. None of it is checkpointed.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from chains.ports import ChatBackend
from graphs.active_run import ActiveRun
from graphs.drafts import SpecRun
from graphs.history import MAX_CHARS, History, load_history
from graphs.machine.metrics import RunMetrics
from graphs.machine.spec import RunSpec
from graphs.machine.state import RunContext
from graphs.past_calls import past_chars
from graphs.run_memory import exchange_memory, history_memory, object_memory, picture_memory
from graphs.tools.resources import Resources, ToolContext
from graphs.tools.schema_checks import check_schemas
from graphs.tools.toolset import ToolSet, make_toolset
from retrieval.images import Images
from store.ports import Page, Row, RunPrivate, RunRow, Store
from wire.messages import Message
from wire.runs import Run, RunCreate, ThreadRunCreate

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
        resources: Resources,
        max_tool_rounds: int,
        pictures: Images | None = None,
    ) -> None:
        """`resources` are those of the tools. Without pictures, no `image_file` part is converted."""
        self.max_tool_rounds = max_tool_rounds
        self.metrics = RunMetrics()
        self._store = store
        self._model = model
        self._resources = resources
        self._pictures = pictures

    async def toolset(self, row: RunRow) -> ToolSet:
        """Build the tools of a run; a child process parses the documents. Raises InvalidRequest."""
        run = row.body
        context = ToolContext(
            owner=row.owner,
            resources=self._resources,
            vector_store_ids=row.private.get("vector_store_ids") or (),
            passage_chars=lambda: self._passage_chars(run),
        )
        return await make_toolset(row.private["tools"], context)

    async def check(self, request: RunCreate | ThreadRunCreate | SpecRun, run: Run) -> None:
        """Refuse uncheckable schemas of the request itself; the assistant's schemas were checked before. Raises
        Problem."""
        if isinstance(request, SpecRun):
            await check_schemas(run["tools"], run["response_format"])
            return
        await check_schemas(
            () if request.tools is None else run["tools"],
            None if request.response_format is None else run["response_format"],
        )

    async def history(
        self,
        run: Run,
        owner: str,
        *,
        own: str | None = None,
        first: Page | None = None,
        newer: Sequence[Row] = (),
    ) -> History:
        """Read the thread's entries for this run, oldest first, without those of the run `own`; `newer` follow them."""
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
            newer=newer,
        )

    async def memory(self, active: ActiveRun, history: History) -> int:
        """Return the bytes that a run with this history holds, its object, earlier calls and its pictures."""
        pictures = 0 if self._pictures is None else await self._pictures.measure(active.owner, history.messages)
        past = exchange_memory(past_chars(history.past)) if history.past else 0
        return history_memory(history.messages) + picture_memory(pictures) + object_memory(active.size) + past

    async def reload(self, active: ActiveRun, row: RunRow, toolset: ToolSet) -> RunContext:
        """Read the history of a run that continues, and return its context. Sets the memory of `active`."""
        history = await self.history(row.body, row.owner, own=row.id)
        active.history_memory = await self.memory(active, history)
        return self.context(active, row.private, toolset, history)

    def context(self, active: ActiveRun, private: RunPrivate, toolset: ToolSet, history: History) -> RunContext:
        """Make a run's context; `private` is its row's."""

        seen: list[Message] = []
        loading = asyncio.Lock()

        async def messages() -> list[Message]:
            if self._pictures is None:
                return history.messages
            async with loading:  # concurrent tool calls ask for the history concurrently
                if not seen:
                    seen.extend(await self._pictures.inline(active.owner, history.messages))
            return seen

        return RunContext(
            spec=RunSpec.of_run(
                active.run,
                tools=private["tools"],
                sampling=private["sampling"],
                max_tool_rounds=self.max_tool_rounds,
                client_calls=private.get("client_calls", "pause"),
            ),
            model=self._model,
            tools=toolset,
            history=messages,
            emit=active.on_part,
            count_usage=active.recorder.count_usage,
            count_cached=active.recorder.count_cached,
            backpressure=active.backpressure,
            note_output=active.note_output,
            reserve=active.reserve,
            clipped=history.clipped,
            past=history.past,
            metrics=self.metrics,
        )

    def _passage_chars(self, run: Run) -> int:
        """Return how many characters of passages a search can add: at most a third of the model's context."""
        model, budget = run["model"], run["max_prompt_tokens"]
        limit = self._model.context_limit(model) or _SEARCH_TOKENS
        tokens = min(_SEARCH_TOKENS, limit // 3, *(() if budget is None else (budget // 3,)))
        return int(tokens / self._model.tokens_per_char(model))
