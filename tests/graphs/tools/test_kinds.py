"""A kind of tool declares the resource that it needs; each process opens it, passes it to the calls, and closes it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api.depends import Deps
from chains.chat_types import FunctionTool
from graphs import build_run_graph
from graphs.machine.stream_parts import Call
from graphs.tools.kinds import KINDS, open_resources
from graphs.tools.port import CallInput, Discovered, Kind, Offer, Outcome, PreviewCall, Tools
from graphs.tools.resources import Resource, Resources, ToolContext, ToolDeps
from graphs.tools.toolset import build_toolset
from server import Settings, create_app
from store.ports import AssistantPrivate, Insert, Row
from store.sqlite.store import open_store
from tests.upstream import Reply, ScriptedUpstream
from wire.assistants import AssistantCreate, new_assistant
from wire.errors import PromptRefused, RunError
from wire.ids import DEFAULT_OWNER as OWNER
from wire.messages import MessageCreate
from wire.runs import ThreadRunCreate
from wire.threads import ThreadCreate

TYPE = "code_interpreter"  # a type that assistants can have, and that the server has no kind for


@dataclass
class Counter:
    """A client with a task, like an MCP session."""

    asked: asyncio.Queue[asyncio.Future[int]] = field(default_factory=asyncio.Queue)

    async def serve(self) -> None:
        number = 0
        while True:
            answer = await self.asked.get()
            number += 1
            answer.set_result(number)

    async def count(self) -> int:
        answer = asyncio.get_running_loop().create_future()
        await self.asked.put(answer)
        return await answer


@dataclass
class CountTool:
    counter: Counter
    name: str = "count"
    step_type: str = "function"
    label: str = "count"
    preview: PreviewCall | None = None
    returns_passages: bool = False

    def arguments_for(self, _: str, /) -> str | None:
        return None

    async def call(self, _call: Call, _given: CallInput, /) -> Outcome:
        return Outcome(f"counted to {await self.counter.count()}")


@dataclass
class Probe:
    """Records what happens to the resource, and whether the process has what it needs."""

    events: list[str] = field(default_factory=list)
    is_possible: bool = True
    fails: bool = False

    @asynccontextmanager
    async def open(self, _: ToolDeps) -> AsyncIterator[Counter | None]:
        if self.fails:
            raise OSError("no sandbox")
        if not self.is_possible:
            yield None
            return
        self.events.append("opened")
        counter = Counter()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(counter.serve())
            owner = asyncio.current_task()
            yield counter
            assert asyncio.current_task() is owner, (
                "the resource was closed in another task than the one that opened it"
            )
            serving.cancel()
        self.events.append("closed")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Register a kind of tool."""
    probe = Probe()
    resource = Resource(probe.open)

    def offer(tools: Tools, context: ToolContext, taken: set[str]) -> list[Offer]:
        taken.add("count")
        counter = context.get(resource)
        spec = {"name": "count", "parameters": {"type": "object", "properties": {}}}
        tool = None if counter is None else CountTool(counter)
        return [Offer(index, {"type": "function", "function": spec}, tool) for index, _ in tools]

    monkeypatch.setitem(KINDS, TYPE, Kind(offer, resource=resource))
    return probe


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        scripted.script(Reply(tool_calls=[("count", {})]), Reply(tool_calls=[("count", {})]), Reply("Done."))
        yield scripted


def outputs(upstream: ScriptedUpstream) -> list[str]:
    """Return the outputs of tools in the newest prompt."""
    return [message["content"] for message in upstream.requests[-1].body["messages"] if message["role"] == "tool"]


def test_a_graph_of_the_library_opens_and_closes_the_resource(probe: Probe, upstream: ScriptedUpstream) -> None:
    with build_run_graph(upstream.url, tools=[{"type": TYPE}]) as graph:
        assert probe.events == []
        assert graph.invoke({"content": "count"})["event"] == "thread.run.completed"
        assert outputs(upstream) == ["counted to 1", "counted to 2"]
        assert probe.events == ["opened"]
    assert probe.events == ["opened", "closed"]


async def test_a_server_opens_and_closes_the_resource(probe: Probe, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    app = create_app(Settings(_env_file=None, data_dir=tmp_path, model_url=upstream.url, embeddings_model="none"))
    async with app.router.lifespan_context(app):
        deps: Deps = app.state.deps
        body = new_assistant(AssistantCreate(model="m"), id="asst_1", now=1)
        private = AssistantPrivate(tools=[{"type": TYPE}], sampling={})
        await deps.store.commit([Insert(Row("assistant", "asst_1", OWNER, body, private=private))], durable=True)
        thread = ThreadCreate(messages=[MessageCreate(role="user", content="count")])
        started = await deps.runner.create_and_start(OWNER, ThreadRunCreate(assistant_id="asst_1", thread=thread))
        events = [event async for batch in deps.runner.follow(started.run_id, after=-1) for event in batch]
        assert events[-1].name == "thread.run.completed"
        assert outputs(upstream) == ["counted to 1", "counted to 2"]
        assert probe.events == ["opened"]
    assert probe.events == ["opened", "closed"]


async def test_a_kind_is_not_offered_without_its_resource(probe: Probe) -> None:
    probe.is_possible = False
    store = await open_store()
    try:
        async with open_resources(ToolDeps(store)) as resources:
            tools = build_toolset([{"type": TYPE}], ToolContext(resources=resources))
    finally:
        await store.close()
    assert (tools.specs, tools.not_offered) == ((), (TYPE,))
    assert build_toolset([{"type": TYPE}]).specs, "a tool that is only validated was not accepted"


async def raise_timeout(_: Tools, __: ToolContext) -> Discovered:
    raise TimeoutError


async def find_too_many(tools: Tools, _: ToolContext) -> Discovered:
    index = tools[0][0]
    specs: list[FunctionTool] = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(200)]
    return lambda _: [Offer(index, spec, CountTool(Counter(), spec["function"]["name"])) for spec in specs]


@pytest.mark.parametrize(
    ("discover", "error", "message"),
    [
        (raise_timeout, RunError, f"of type `{TYPE}` could not be listed within 30 s"),
        (find_too_many, PromptRefused, "offers 200 functions and operations; at most 128 are allowed"),
    ],
    ids=["timeout", "too many"],
)
async def test_an_error_of_a_discovery_is_one_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
    discover: Callable[[Tools, ToolContext], Awaitable[Discovered]],
    error: type[RunError],
    message: str,
) -> None:
    monkeypatch.setitem(KINDS, TYPE, Kind(lambda *_: [], discover=discover))
    tools = build_toolset([{"type": TYPE}], ToolContext(resources=Resources()))
    with pytest.raises(error, match=message):
        await tools.completed()
    assert build_toolset([{"type": TYPE}]).discover is None, "a tool that is only validated asks no server"


async def test_a_failed_opening_closes_the_resources_opened_before(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Probe(fails=True)
    monkeypatch.setitem(KINDS, "failing", Kind(lambda *_: [], resource=Resource(failing.open)))
    store = await open_store()
    try:
        with pytest.raises(OSError, match="no sandbox"):
            async with open_resources(ToolDeps(store)):
                raise AssertionError("unreachable")
    finally:
        await store.close()
    assert probe.events == ["opened", "closed"]


async def test_kinds_that_share_a_resource_open_it_once(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "other", Kind(lambda *_: [], resource=KINDS[TYPE].resource))
    store = await open_store()
    try:
        async with open_resources(ToolDeps(store)):
            assert probe.events == ["opened"]
    finally:
        await store.close()
