"""LangGraph's saver over the store: its published conformance suite, and no writes for a run without tools."""

import operator
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from graphs.checkpoints import StoreSaver
from store.ports import DropCheckpoints, Patch
from store.sqlite.store import SqliteStore, open_store
from tests.store.rows import put_run


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = await open_store()
    yield opened
    await opened.close()


@pytest.mark.timeout(360)
async def test_the_published_conformance_suite_passes() -> None:
    @checkpointer_test(name="StoreSaver")
    async def saver() -> AsyncIterator[StoreSaver]:
        opened = await open_store()
        yield StoreSaver(opened.checkpoints, keeps=lambda _: True)
        await opened.close()

    report = await validate(saver)
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    passed = {name for name, result in report.results.items() if result.passed}
    assert passed == {"put", "put_writes", "get_tuple", "list", "delete_thread"}


class State(TypedDict):
    exchange: Annotated[list[BaseMessage], operator.add]


def graph(saver: StoreSaver, *, tools: bool) -> Any:
    calls = [{"name": "f", "args": {}, "id": "call_1"}]

    async def reply(state: State) -> State:
        done = any(isinstance(message, ToolMessage) for message in state["exchange"])
        return {"exchange": [AIMessage("", tool_calls=calls)] if tools and not done else []}

    async def pause(_: State) -> State:
        return {"exchange": [ToolMessage(interrupt("?"), tool_call_id="call_1")]}

    def route(state: State) -> str:
        return "pause" if state["exchange"] and isinstance(state["exchange"][-1], AIMessage) else END

    built = StateGraph(State)
    built.add_node("reply", reply)
    built.add_node("pause", pause)
    built.add_edge(START, "reply")
    built.add_conditional_edges("reply", route, ["pause", END])
    built.add_edge("pause", "reply")
    return built.compile(checkpointer=saver)


def config(run_id: str, **more: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": run_id, **more}}


def counted(table: str) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def rows(store: SqliteStore) -> tuple[int, int]:
    await store.unfinished()
    return await store.engine.read(counted("checkpoints")), await store.engine.read(counted("checkpoint_writes"))


async def test_a_run_without_tools_writes_no_checkpoint(store: SqliteStore) -> None:
    await graph(StoreSaver(store.checkpoints), tools=False).ainvoke({"exchange": []}, config("run_1", fresh=True))
    assert await rows(store) == (0, 0)


@pytest.mark.parametrize("durability", ["sync", "async"])
async def test_another_process_resumes_a_pause_and_the_end_drops_it(tmp_path: Path, durability: str) -> None:
    store = await open_store(tmp_path / "t.db")
    _, run = await put_run(store, "in_progress")
    paused = graph(StoreSaver(store.checkpoints), tools=True)
    await paused.ainvoke({"exchange": []}, config(run.id, fresh=True), durability=durability)
    await store.commit([Patch("run", run.id, "ann", {"status": "requires_action"})], durable=True)
    await store.close()
    store = await open_store(tmp_path / "t.db")
    resumed = graph(StoreSaver(store.checkpoints), tools=True)
    assert (await resumed.aget_state(config(run.id))).next == ("pause",)
    end = await resumed.ainvoke(Command(resume="42"), config(run.id), durability=durability)
    assert [message.content for message in end["exchange"]] == ["", "42"]
    await store.commit([DropCheckpoints(run.id)], durable=False)
    assert await rows(store) == (0, 0)
    assert await StoreSaver(store.checkpoints).aget_tuple(config(run.id)) is None  # type: ignore[arg-type]
    await store.close()


async def test_a_new_run_has_no_checkpoint_look_up(tmp_path: Path) -> None:
    seen: list[str] = []
    store = await open_store(tmp_path / "t.db", trace=seen.append)
    seen.clear()
    assert await StoreSaver(store.checkpoints).aget_tuple(config("run_1", fresh=True)) is None  # type: ignore[arg-type]
    assert seen == []
    await store.close()


async def test_a_checkpoint_is_readable_before_it_is_committed(store: SqliteStore) -> None:
    paused = graph(StoreSaver(store.checkpoints), tools=True)
    await paused.ainvoke({"exchange": []}, config("run_1", fresh=True))
    assert (await paused.aget_state(config("run_1"))).interrupts[0].value == "?"


async def test_the_synchronous_methods_are_not_implemented(store: SqliteStore) -> None:
    with pytest.raises(NotImplementedError):
        StoreSaver(store.checkpoints).get_tuple(config("run_1"))  # type: ignore[arg-type]


def test_versions_increase_as_text(store: SqliteStore) -> None:
    versions, saver = [None], StoreSaver(store.checkpoints)
    for _ in range(12):
        versions.append(saver.get_next_version(versions[-1], None))  # type: ignore[arg-type]
    assert versions[1:] == sorted(versions[1:])  # type: ignore[type-var]
