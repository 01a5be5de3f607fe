"""Runs as one Runnable: an input in, the run's events out, with the same numbers as in the REST API.

Invariants: only the reader that started or continued a run cancels it by leaving; a reader that only follows never
does. Errors are data, in the last chunk. An input without an assistant is a run from a `RunSpec`, and no assistant is
stored. If the thread has files, the run searches them even if the assistant has no `file_search`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict, Field

from chains.backpressure import BackpressureRunnable, context_without_reader, find_reader
from chains.bridge import BridgedRunnable
from chains.disconnect import on_disconnect
from graphs.drafts import DEFAULTS, RunChoices, SpecRun, spec_assistant_id
from graphs.machine.spec import RunSpec
from graphs.runner import Runner, StartedRun
from store.ports import RunRow, Store
from telemetry.tracebacks import clear_tracebacks
from wire.answers_to_errors import as_problem
from wire.assistants import ModelName
from wire.errors import InvalidRequest, NotFound, Problem, ThreadholdError
from wire.events import RUN_ENDS, Event, encode
from wire.ids import DEFAULT_OWNER
from wire.json import Json, JsonObject
from wire.messages import MessageCreate
from wire.model_options import requested_sampling
from wire.runs import RunCreate, SubmitToolOutputs, ThreadRunCreate
from wire.threads import ThreadCreate
from wire.validation import parse

__all__ = ["OWNER", "RunChunk", "RunInput", "RunRunnable", "collect_output"]

OWNER: Final = "__owner"
"""Key of `config["configurable"]` with the owner of the objects; only the server is allowed to set it."""

_NO_VALUES: Final = RunSpec(model="")
_FILE_SEARCH: Final = {"type": "file_search"}
_PAUSES: Final = RUN_ENDS | {"thread.run.requires_action"}


class Output(BaseModel):
    """The output of a function."""

    model_config = ConfigDict(extra="forbid")

    tool_call_id: str = ""
    output: str = ""


class RunInput(BaseModel):
    """A new turn (`content`, `thread_id`, or both), outputs for a waiting run (`run_id`, `tool_outputs`), or a run to
    follow (`run_id`).

    Defaults instead of None: LangServe's playground shows a blank page for nullable fields. Its form has this order.
    """

    model_config = ConfigDict(extra="forbid")

    content: str = Field("", description="Empty: the thread is run as it stands")
    instructions: str = ""
    model: ModelName = ""
    thread_id: str = Field("", description="Empty: a new thread")
    assistant_id: str = Field("", description="Empty: the run has the model and the instructions only")
    run_id: str = ""
    tool_outputs: list[Output] = Field([], max_length=1_000)
    file_ids: list[str] = Field(
        [], max_length=500, description="Files for `content`: they go into the thread's vector store"
    )
    image_ids: list[str] = Field(
        [], max_length=500, description="Ids of picture files that the model sees with `content`"
    )
    replaces: str = Field("", description="Message of the thread: it and all after it are deleted as the run starts")
    after: int = Field(-1, description="Only events with a higher number")
    temperature: float = Field(1.0, description="1 is left to the assistant, or to the model's own default")
    max_completion_tokens: int = Field(-1, description="-1: no limit")
    on_disconnect: Literal["cancel", "continue"] = "cancel"


class RunChunk(BaseModel):
    """One event: its name, its data, and its sequence number. The last one stands for the whole run."""

    event: str
    data: JsonObject
    id: int
    text: str = Field("", description="Of all messages; of a whole run only, chunks of a stream have none")


@dataclass(slots=True)
class _Follower:
    """What a reader does with a run; `starting` is set only if the reader starts or continues it."""

    run_input: RunInput
    owner: str
    started: StartedRun | None = None
    starting: "asyncio.Future[StartedRun] | None" = None
    is_finished: bool = False
    number: int = -1
    logged: bool = False
    """Whether a log or events are read. The run does not wait for their reader, so it does not report to it."""


class RunRunnable(BackpressureRunnable[JsonObject, JsonObject], BridgedRunnable[JsonObject, JsonObject]):
    """See the module. Synchronous calls need a runner that was entered on the bridge's loop, as `graphs.local` does."""

    name = "assistant"

    def __init__(
        self,
        runner: Runner,
        store: Store,
        *,
        owner: str = DEFAULT_OWNER,
        returns_errors: bool = True,
        choices: RunChoices = DEFAULTS,
        spec: RunSpec = _NO_VALUES,
    ) -> None:
        """Without `returns_errors`, errors are raised as ThreadholdError instead of returned as events. `spec` has the
        values of inputs without an assistant that they do not replace; `choices` apply to those with one."""
        self._runner = runner
        self._store = store
        self._owner = owner
        self._returns_errors = returns_errors
        self._choices = choices
        self._spec = spec

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """Return RunInput."""
        return RunInput

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """Return RunChunk."""
        return RunChunk

    async def ainvoke(self, input: JsonObject, config: RunnableConfig | None = None, **kwargs: Any) -> JsonObject:
        """Run until the run pauses or ends; returns the run's own last event, and the `text` of its messages.

        An error is returned as `error`.
        """
        return await collect_output(self.astream(input, config, **kwargs))

    async def astream(
        self, input: JsonObject, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[JsonObject]:
        """Yield the events as they come."""
        try:
            follower = self._follower(input, config)
        except InvalidRequest as error:
            if not self._returns_errors:
                raise
            yield _chunk(_error_event(error, -1))
            return

        reader = find_reader(config)
        follower.logged = reader is not None

        async def chunks(_: AsyncIterator[Json]) -> AsyncIterator[JsonObject]:
            if reader is not None:
                await reader.wait()
            async for batch in self._batches(follower):
                for event in batch:
                    yield _chunk(event)
                    if reader is not None:
                        await reader.wait()

        async def given() -> AsyncIterator[JsonObject]:
            yield input

        with on_disconnect(lambda: self._on_disconnect(follower)):
            async for chunk in self._atransform_stream_with_config(given(), chunks, config, **kwargs):
                yield chunk

    async def batches(self, input: JsonObject, config: RunnableConfig | None = None) -> AsyncIterator[Sequence[Event]]:
        """Yield the same events, encoded, in the batches in which they come. Callbacks are not called, and an invalid
        input always becomes an event."""
        try:
            follower = self._follower(input, config)
        except InvalidRequest as error:
            yield (_error_event(error, -1),)
            return
        with on_disconnect(lambda: self._on_disconnect(follower)):
            async for batch in self._batches(follower):
                yield batch

    def _follower(self, input: JsonObject, config: RunnableConfig | None) -> _Follower:
        run_input = parse(RunInput, input)
        return _Follower(
            run_input, (config or {}).get("configurable", {}).get(OWNER, self._owner), number=run_input.after
        )

    async def _batches(self, follower: _Follower) -> AsyncIterator[Sequence[Event]]:
        try:
            run_id = await self._start_or_find(follower)
            async with aclosing(self._runner.follow(run_id, after=follower.number)) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    follower.number = batch[-1].number
                    follower.is_finished = batch[-1].name in _PAUSES
                    yield batch
            follower.is_finished = True
        except ThreadholdError as error:
            if not self._returns_errors:
                raise
            event = _error_event(as_problem(error), follower.number)
            clear_tracebacks(error)
            yield (event,)

    def _on_disconnect(self, follower: _Follower) -> None:
        """Stop a run when the reader that started it disconnects, unless it has ended, paused or is to continue."""
        if follower.is_finished or follower.run_input.on_disconnect == "continue" or follower.starting is None:
            return
        owner = follower.owner

        def stop(starting: "asyncio.Future[StartedRun]") -> None:
            if not starting.cancelled() and starting.exception() is None:
                run = starting.result().run
                self._runner.abandon(owner, run["thread_id"], run["id"])

        follower.starting.add_done_callback(stop)

    # --- starting and continuing ----------------------------------------------------------------------------------

    async def _start_or_find(self, follower: _Follower) -> str:
        """Start, resume or find the run; returns its id."""
        run_input = follower.run_input
        if run_input.run_id and (run_input.content or run_input.image_ids):
            raise InvalidRequest("Give `content` for a new turn, or `run_id` for a run that is there; not both.")
        given = run_input.content or run_input.image_ids
        if not run_input.run_id and not given and (run_input.file_ids or not run_input.thread_id):
            raise InvalidRequest("Give `content` for a new turn, or `run_id` for a run that is there.", param="content")
        if run_input.replaces and not run_input.thread_id:
            raise InvalidRequest("Give the `thread_id` of the message that the turn replaces.", param="thread_id")
        if run_input.run_id and not run_input.tool_outputs:
            return (await self._row(run_input.run_id, follower.owner)).id
        work = self._resume(follower) if run_input.run_id else self._start(follower)
        context = context_without_reader() if follower.logged else None
        follower.starting = self._runner.create_start_task(work, context)
        started = await asyncio.shield(follower.starting)
        follower.number = max(follower.number, started.after)
        return started.run_id

    async def _resume(self, follower: _Follower) -> StartedRun:
        given = {"tool_outputs": [output.model_dump() for output in follower.run_input.tool_outputs]}
        outputs = parse(SubmitToolOutputs, given)
        row = await self._row(follower.run_input.run_id, follower.owner)
        return await self._runner.submit(follower.owner, row.body["thread_id"], row.id, outputs.given())

    async def _start(self, follower: _Follower) -> StartedRun:
        run_input, owner = follower.run_input, follower.owner
        attachments = [{"file_id": id, "tools": [_FILE_SEARCH]} for id in run_input.file_ids]
        message = {"role": "user", "content": _content(run_input), "attachments": attachments}
        messages = [parse(MessageCreate, message)] if message["content"] else []
        if not run_input.assistant_id:
            return await self._start_spec(run_input, owner, messages)
        fields: JsonObject = {"assistant_id": run_input.assistant_id, **_options(run_input)}
        if run_input.model:
            fields["model"] = run_input.model
        if run_input.instructions:
            fields["instructions"] = run_input.instructions
        assistant = await self._store.get("assistant", run_input.assistant_id, owner)
        tools: list[JsonObject] = [] if assistant is None else assistant.body["tools"]
        if await self._lacks_search(run_input, tools, owner):
            fields["tools"] = [*tools, _FILE_SEARCH]
        if run_input.thread_id:
            request = parse(RunCreate, {**fields, "additional_messages": messages})
            return await self._runner.start(
                owner, run_input.thread_id, request, self._choices, replaces=run_input.replaces
            )
        begun = parse(ThreadRunCreate, {**fields, "thread": ThreadCreate(messages=messages)})
        return await self._runner.create_and_start(owner, begun, self._choices)

    async def _start_spec(self, run_input: RunInput, owner: str, messages: Sequence[MessageCreate]) -> StartedRun:
        """Start a run without a stored assistant."""
        spec = replace(
            self._spec,
            model=run_input.model or self._spec.model,
            instructions=run_input.instructions or self._spec.instructions,
        )
        shown = spec_assistant_id(owner, spec)
        given = parse(RunCreate, {"assistant_id": shown, "instructions": spec.instructions, **_options(run_input)})
        sampling: JsonObject = {**requested_sampling(given)}
        spec = replace(
            spec,
            tools=[*spec.tools, _FILE_SEARCH] if await self._lacks_search(run_input, spec.tools, owner) else spec.tools,
            options=replace(spec.options, **sampling),
            max_completion_tokens=given.max_completion_tokens or spec.max_completion_tokens,
        )
        request = SpecRun(spec, messages, assistant_id=shown)
        if run_input.thread_id:
            return await self._runner.start(
                owner, run_input.thread_id, request, self._choices, replaces=run_input.replaces
            )
        return await self._runner.create_and_start(owner, request, self._choices)

    async def _lacks_search(self, run_input: RunInput, tools: Sequence[JsonObject], owner: str) -> bool:
        """Return whether the thread has files, or gets some, that these tools do not search."""
        if any(tool["type"] == "file_search" for tool in tools):
            return False
        if run_input.file_ids or not run_input.thread_id:
            return bool(run_input.file_ids)
        thread = await self._store.get("thread", run_input.thread_id, owner)
        return thread is not None and bool(thread.body["tool_resources"].get("file_search"))

    async def _row(self, run_id: str, owner: str) -> RunRow:
        row = await self._store.get("run", run_id, owner)
        if row is None:
            raise NotFound(f"No run found with id '{run_id}'.", param="run_id")
        return row


async def collect_output(chunks: AsyncIterator[JsonObject]) -> JsonObject:
    """Return the run's own last event, or `error`, with the `text` of all its messages."""
    last: JsonObject = {}
    texts: dict[str, str] = {}
    async for chunk in chunks:
        name, data = chunk["event"], chunk["data"]
        if name in ("thread.message.completed", "thread.message.incomplete"):
            texts[data["id"]] = "".join(part["text"]["value"] for part in data["content"])
        elif name == "error" or (name.startswith("thread.run.") and not name.startswith("thread.run.step.")):
            last = chunk
    return {**last, "text": "\n".join(texts.values())}


def _options(run_input: RunInput) -> JsonObject:
    """Return the options that the input sets, as fields of a request."""
    options: JsonObject = {}
    if run_input.temperature != 1:
        options["temperature"] = run_input.temperature
    if run_input.max_completion_tokens != -1:
        options["max_completion_tokens"] = run_input.max_completion_tokens
    return options


def _content(run_input: RunInput) -> str | list[JsonObject]:
    """Return the new message's content: its text alone, or its parts if it has pictures."""
    if not run_input.image_ids:
        return run_input.content
    text: list[JsonObject] = [{"type": "text", "text": run_input.content}] if run_input.content else []
    return [*text, *({"type": "image_file", "image_file": {"file_id": id}} for id in run_input.image_ids)]


def _chunk(event: Event) -> JsonObject:
    return {"event": event.name, "data": event.data(), "id": event.number}


def _error_event(problem: Problem, number: int) -> Event:
    """Return the body that the REST API would answer, with the status code that it would have there."""
    body = problem.body()
    return Event(number, "error", encode({"error": {**body["error"], "status": problem.status}}))
