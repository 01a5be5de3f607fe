"""The environment of the runner's tests: a real store, a real model client, a scripted upstream, no HTTP of our own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chains import CallLimits, OpenAIBackend, Upstream
from graphs.runner import Runner, StartedRun
from graphs.tools.action_caller import ActionCaller
from graphs.tools.lazy_caller import CALLER
from graphs.tools.resources import Resources
from retrieval.attachments import Attachments
from store.ports import Insert, PageQuery, Row
from store.sqlite.database import Trace
from store.sqlite.store import SqliteStore, open_store
from tests.blocking import no_blocking_calls
from tests.upstream import ScriptedUpstream
from wire.assistants import AssistantCreate, new_assistant
from wire.events import Event
from wire.ids import new_id
from wire.messages import MessageCreate, new_message
from wire.runs import RunCreate
from wire.threads import ThreadCreate, new_thread

OWNER = "default"
_TRUST = ssl.create_default_context()  # one for all harnesses, because it takes long to make

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "getWeather",
        "description": "Weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
TIME: dict[str, Any] = {"type": "function", "function": {"name": "getTime", "parameters": {"type": "object"}}}


@dataclass
class Clock:
    """A clock that a test can advance."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Harness:
    """What a test works with."""

    store: SqliteStore
    runner: Runner
    upstream: ScriptedUpstream
    clock: Clock = field(default_factory=Clock)

    async def assistant(self, *, owner: str = OWNER, **fields: Any) -> str:
        """Store an assistant and return its id."""
        body = new_assistant(AssistantCreate(**{"model": "m", **fields}), id=new_id("asst"), now=1)
        row = Row("assistant", body["id"], owner, body, private={"tools": body["tools"], "sampling": {}})
        await self.store.commit([Insert(row)], durable=True)
        return row.id

    async def thread(self, *texts: str, owner: str = OWNER) -> str:
        """Store a thread with user messages and return its id."""
        body = new_thread(ThreadCreate(), id=new_id("thread"), now=1)
        await self.store.commit([Insert(Row("thread", body["id"], owner, body))], durable=True)
        for text in texts:
            message = new_message(
                MessageCreate(role="user", content=text), id=new_id("msg"), thread_id=body["id"], now=1
            )
            await self.store.commit([Insert(Row("message", message["id"], owner, message, body["id"]))], durable=True)
        thread_id: str = body["id"]
        return thread_id

    async def start(self, thread_id: str, assistant_id: str, **fields: Any) -> StartedRun:
        """Start a run."""
        return await self.runner.start(OWNER, thread_id, RunCreate(assistant_id=assistant_id, **fields))

    async def start_run(self, text: str = "Hello", tools: Sequence[Any] = (), **fields: Any) -> StartedRun:
        """Start a run on a new thread with a new assistant."""
        return await self.start(await self.thread(text), await self.assistant(tools=list(tools)), **fields)

    async def events(self, run_id: str, after: int = -1) -> list[Event]:
        """Follow until the run pauses or has ended."""
        return [event async for batch in self.runner.follow(run_id, after=after) for event in batch]

    async def run(self, started: StartedRun) -> dict[str, Any]:
        """Return the run's current row."""
        row = await self.store.get("run", started.run_id, OWNER, thread_id=started.run["thread_id"])
        assert row is not None
        return row.body

    async def rows(self, kind: Any, started: StartedRun) -> list[dict[str, Any]]:
        """Return a run's steps, or its thread's messages, oldest first."""
        run_id = started.run_id if kind == "step" else None
        query = PageQuery(limit=100, order="asc")
        page = await self.store.page(kind, OWNER, query, thread_id=started.run["thread_id"], run_id=run_id)
        return [row.body for row in page.rows]


@asynccontextmanager
async def harness(
    upstream: ScriptedUpstream,
    path: Path | None = None,
    clock: Clock | None = None,
    trace: Trace | None = None,
    **options: Any,
) -> AsyncIterator[Harness]:
    """Open a harness; `path` keeps the store on disk, `trace` receives every SQL statement."""
    clock = clock or Clock()
    store = await open_store(":memory:" if path is None else path, trace=trace)
    model = Upstream(upstream.url, limits=CallLimits(idle_s=60))
    await model.open()
    caller = ActionCaller(allow_hosts=("127.0.0.1",), timeout_s=60, max_bytes=100_000, tls=_TRUST)
    try:
        attachments = Attachments(store, store.file_queries, clock=clock)
        async with Runner(
            store, OpenAIBackend(model), Resources({CALLER: caller}), attachments=attachments, clock=clock, **options
        ) as runner:
            with no_blocking_calls(["wire", "store", "chains", "graphs"]):  # nothing blocks the event loop from here on
                yield Harness(store, runner, upstream, clock)
    finally:
        await caller.close()
        await model.close()
        await store.close()


async def until(condition: Callable[[], Any], limit_s: float = 60.0) -> None:
    """Wait for a condition that must soon hold. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


def names(events: Sequence[Event]) -> list[str]:
    """Return event names without the prefix `thread.`, with repeated deltas reduced to one."""
    folded: list[str] = []
    for event in events:
        name = event.name.removeprefix("thread.")
        if not (name.endswith("delta") and folded and folded[-1] == name):
            folded.append(name)
    return folded


def text_of(events: Sequence[Event]) -> str:
    """Return the text of the deltas."""
    return "".join(
        part["text"]["value"]
        for event in events
        if event.name == "thread.message.delta"
        for part in event.data()["delta"]["content"]
    )
