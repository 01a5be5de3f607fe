"""Runs without a server: a run's graph, a store and a model as one Runnable.

The behaviour is the server's: the same inputs, events and statuses; outputs continue a waiting run; leaving a stream
cancels the run. Everything runs on the bridge's loop, so any thread and any event loop can call it.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import ConfigurableFieldSpec
from langgraph.types import Command
from pydantic import BaseModel

from chains import OpenAIBackend, Upstream
from chains.bridge import BridgedRunnable, follow, join, run
from chains.disconnect import on_disconnect
from chains.langchain_model import LangChainBackend
from chains.lazy_resource import LazyResource
from graphs.drafts import RunChoices
from graphs.machine.build import compile_run_graph
from graphs.machine.spec import ClientCalls, RunSpec
from graphs.run_runnable import RunChunk, RunInput, RunRunnable, collect_output
from graphs.runner import Runner
from graphs.tools.kinds import open_resources
from graphs.tools.lazy_caller import ActionOptions
from graphs.tools.local_functions import LocalFunctions, LocalTool
from graphs.tools.resources import ToolDeps
from graphs.tools.toolset import build_toolset
from retrieval.attachments import Attachments
from store.backend import open_backend
from store.ports import Insert, Row, Store
from wire.assistants import AssistantCreate
from wire.errors import InvalidRequest, StoreError
from wire.ids import DEFAULT_OWNER
from wire.json import JsonObject
from wire.runs import Run, WantedCall
from wire.threads import ThreadCreate, new_thread
from wire.validation import parse
from workers import open_workers

__all__ = ["RunGraph", "build_run_graph"]


def build_run_graph(
    model: str | Upstream | BaseChatModel,
    *,
    tools: Iterable[LocalTool] = (),
    instructions: str = "",
    model_name: str = "",
    api_key: str | None = None,
    store: str | Path = ":memory:",
    actions_allow_hosts: Iterable[str] = (),
    expiry_s: int = 600,
    max_tool_rounds: int = 20,
    client_calls: ClientCalls = "pause",
) -> "RunGraph":
    """Return runs as a Runnable; nothing is opened or connected before its first use.

    Args:
        model: An OpenAI-compatible address, an Upstream (opened and closed here), or any LangChain chat model.
        tools: Functions and LangChain tools are called here. Function schemas in the API's form make a run wait for
            their outputs (`thread.run.requires_action`); `action` tools call their API.
        model_name: One of the upstream's models; empty: the first that it lists.
        api_key: For an address.
        store: Where threads and waiting runs are kept: memory, a file, which one process at a time can open, or the URL
            of a database.
        actions_allow_hosts: Private or loopback hosts that actions can call, as names, addresses or CIDRs.
        expiry_s: Seconds after which a run expires.
        max_tool_rounds: Maximum rounds of tool calls in a run.
        client_calls: What calls of function schemas do: "pause" the run until it gets their outputs, or "end" it as
            completed, for callers that only want the calls. The event `thread.run.step.completed` has them.

    Raises:
        ThreadholdError: an address, a tool or an OpenAPI document is invalid.
        ValueError: a function has no docstring to serve as its description, or is to be called here although
            `client_calls` ends the run.
    """
    functions = LocalFunctions(tools)
    if client_calls == "end" and functions.names:
        raise ValueError(f'`client_calls` must be "pause": {", ".join(functions.names)} are called here.')
    asked = {"model": model_name, "instructions": instructions or None, "tools": functions.specs}
    parse(AssistantCreate, asked)
    build_toolset(functions.specs)
    upstream = Upstream(model, api_key=api_key) if isinstance(model, str) else model
    allowed, choices = tuple(actions_allow_hosts), RunChoices(client_calls=client_calls)
    spec = RunSpec(model=model_name, instructions=instructions, tools=functions.specs, client_calls=client_calls)

    @asynccontextmanager
    async def open_deps() -> AsyncIterator[_Deps]:
        async with AsyncExitStack() as stack:
            backend = await stack.enter_async_context(open_backend(store))
            opened = backend.records
            await stack.enter_async_context(open_workers())
            tools = ToolDeps(opened, options=[ActionOptions(allow_hosts=allowed)])
            resources = await stack.enter_async_context(open_resources(tools))
            if isinstance(upstream, Upstream):
                stack.push_async_callback(upstream.close)
                await upstream.open()
            chat_backend = OpenAIBackend(upstream) if isinstance(upstream, Upstream) else LangChainBackend(upstream)
            runner = Runner(
                opened,
                chat_backend,
                resources,
                attachments=Attachments(opened, backend.file_queries),
                expiry_s=expiry_s,
                max_tool_rounds=max_tool_rounds,
                processes=backend.processes,
            )
            await stack.enter_async_context(runner)
            runnable = RunRunnable(
                runner, opened, owner=DEFAULT_OWNER, returns_errors=False, choices=choices, spec=spec
            )
            yield _Deps(opened, runner, runnable)

    return RunGraph(open_deps, functions)


@dataclass(frozen=True, slots=True)
class _Deps:
    store: Store
    runner: Runner
    runnable: RunRunnable


class RunGraph(BridgedRunnable[JsonObject | Command[Any], JsonObject]):
    """Takes inputs (`graphs.run_runnable.RunInput` as a dict) and yields the run's events; invoke returns the last one,
    with the `text`.

    `config["configurable"]["thread_id"]` names the thread if the input does not; the thread is created on first use.
    `Command(resume=…)` also continues such a thread's waiting run: with outputs by call id, or with the only output.
    Outputs of functions that are called here can be omitted. Raises ThreadholdError if a run cannot start; a run that
    fails has the reason in `last_error`. Close the graph, or use it as a (synchronous or asynchronous) context manager.
    A process that exits without closing it loses what is in memory, as in a crash.
    """

    name = "run"

    def __init__(self, open_deps: Callable[[], AbstractAsyncContextManager[_Deps]], functions: LocalFunctions) -> None:
        self._deps = LazyResource(open_deps)
        self._functions = functions

    # --- life -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the executing runs, and close the store and the connections. A closed graph stays closed."""
        run(self._deps.close())

    async def aclose(self) -> None:
        """See `close`."""
        await join(self._deps.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- the Runnable's schemas -------------------------------------------------------------------------------------

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The supported fields of `config["configurable"]`."""
        return [ConfigurableFieldSpec(id="thread_id", annotation=str, name="Thread", default="")]

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """Return RunInput."""
        return RunInput

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """Return RunChunk."""
        return RunChunk

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the graph of a run, for drawing."""
        return compile_run_graph().get_graph(config)

    # --- running --------------------------------------------------------------------------------------------------

    async def ainvoke(
        self, input: JsonObject | Command[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> JsonObject:
        """Run until the run ends or waits for outputs; returns the run's last event, and the `text`."""
        return await join(collect_output(self._events(input, config, kwargs)))

    async def astream(
        self, input: JsonObject | Command[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[JsonObject]:
        """Yield the events as they come."""
        async for chunk in follow(lambda: self._events(input, config, kwargs)):
            yield chunk

    async def _events(
        self, input: JsonObject | Command[Any], config: RunnableConfig | None, kwargs: JsonObject
    ) -> AsyncIterator[JsonObject]:
        deps = await self._deps.get()
        run_input: JsonObject | None = await _run_input(
            deps, self._functions, input, (config or {}).get("configurable", {})
        )
        last: JsonObject = {}
        while run_input is not None:
            async for last in deps.runnable.astream(run_input, config, **kwargs):
                yield last
            run_input = await self._own_outputs(deps, run_input, last)

    async def _own_outputs(self, deps: _Deps, run_input: JsonObject, last: JsonObject) -> JsonObject | None:
        """Call our functions for a waiting run; returns the input that continues it.

        Returns None if nothing is to be done, or if the caller has outputs to submit, too: our functions are then
        called when those outputs arrive."""
        follows = run_input.get("run_id") and not run_input.get("tool_outputs")
        if follows or last.get("event") != "thread.run.requires_action":
            return None
        waiting = last["data"]
        calls = _calls(waiting)
        if not all(self._functions.has(call) for call in calls):
            return None
        cancels, made = run_input.get("on_disconnect") != "continue", False

        def left() -> None:
            if cancels and not made:
                deps.runner.abandon(DEFAULT_OWNER, waiting["thread_id"], waiting["id"])

        with on_disconnect(left):
            outputs = await self._functions.outputs(calls)
            made = True
        return {
            "run_id": waiting["id"],
            "tool_outputs": outputs,
            "on_disconnect": run_input.get("on_disconnect", "cancel"),
        }


# --- inputs -----------------------------------------------------------------------------------------------------------


async def _run_input(
    deps: _Deps, functions: LocalFunctions, input: JsonObject | Command[Any], configurable: JsonObject
) -> JsonObject:
    """Return the input for the Runnable: with a thread, and with our own outputs added to the caller's."""
    named = str(configurable.get("thread_id") or "")
    if isinstance(input, Command):
        return await _with_own_outputs(deps, functions, await _resumed(deps, functions, input, named))
    run_input = dict(input) if isinstance(input, dict) else {"content": input}
    if run_input.get("tool_outputs"):
        return await _with_own_outputs(deps, functions, run_input)
    if run_input.get("run_id"):
        return run_input
    if not run_input.get("thread_id") and named:
        await _insert_if_missing(
            deps.store, Row("thread", named, DEFAULT_OWNER, new_thread(ThreadCreate(), id=named, now=_now()))
        )
        run_input["thread_id"] = named
    return run_input


async def _resumed(deps: _Deps, functions: LocalFunctions, command: Command[Any], thread_id: str) -> JsonObject:
    """Return a command as the equivalent input."""
    row = await deps.store.active_run(thread_id, DEFAULT_OWNER) if thread_id else None
    if row is None or row.body["status"] != "requires_action":
        where = f"thread '{thread_id}'" if thread_id else 'the thread; name it in `config["configurable"]["thread_id"]`'
        raise InvalidRequest(f"No run waits on {where}.")
    outputs = command.resume
    if not isinstance(outputs, dict):
        calls = [call for call in _calls(row.body) if not functions.has(call)]
        if len(calls) != 1:
            raise InvalidRequest(f"{len(calls)} calls are waiting: pass their outputs by call id in `resume`.")
        outputs = {calls[0]["id"]: outputs}
    return {"run_id": row.id, "tool_outputs": [{"tool_call_id": id, "output": each} for id, each in outputs.items()]}


async def _with_own_outputs(deps: _Deps, functions: LocalFunctions, run_input: JsonObject) -> JsonObject:
    """Add the outputs of the waiting calls that the caller omitted."""
    row = await deps.store.get("run", str(run_input.get("run_id", "")), DEFAULT_OWNER)
    if row is None or row.body["status"] != "requires_action":
        return run_input  # the runner reports the error
    given = {output.get("tool_call_id") for output in run_input["tool_outputs"]}
    ours = await functions.outputs([call for call in _calls(row.body) if call["id"] not in given])
    return {**run_input, "tool_outputs": [*run_input["tool_outputs"], *ours]}


def _calls(run: Run) -> list[WantedCall]:
    action = run["required_action"]
    return [] if action is None else action["submit_tool_outputs"]["tool_calls"]


async def _insert_if_missing(store: Store, row: Row) -> None:
    """Insert a row unless it exists."""
    if await store.get(row.kind, row.id, row.owner) is None:
        try:
            await store.commit([Insert(row)], durable=True)
        except StoreError:
            if await store.get(row.kind, row.id, row.owner) is None:  # no other process inserted it meanwhile
                raise


def _now() -> int:
    return int(time.time())
