"""The calls of earlier runs that are shown to a run: answered ones, within limits of their own."""

from typing import Any

import pytest

from chains.context import PastRound
from graphs.history import History, load_history
from store.ports import Insert, Row
from store.sqlite.store import SqliteStore, open_store
from tests.store.rows import item, message, thread


def text_message(of: Row, role: str = "user", run_id: str | None = None, text: str = "Hi") -> Row:
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return message(of, run_id=run_id, role=role, content=content)


def call(of: Row, number: int, *, step: str = "s", run_id: str = "run_1", **private: str) -> Row:
    body: dict[str, Any] = {"type": "function_call", "call_id": f"call_{number}", "name": "f", "arguments": "{}"}
    made = item(of, run_id=run_id, **body)
    made.private.update({"step_id": step, "upstream_id": f"up{number}", **private})
    return made


def output(of: Row, number: int, text: str = "out") -> Row:
    return item(of, run_id="run_1", type="function_call_output", call_id=f"call_{number}", output=text)


async def read(of: Row, *rows: Row, **limits: Any) -> tuple[SqliteStore, History]:
    store = await open_store()
    await store.commit([Insert(of), *map(Insert, rows)], durable=True)
    return store, await load_history(store, "ann", of.id, run_id=None, **limits)


def ids(rounds: Any) -> list[list[str]]:
    return [[each.id for each in one.calls] for one in rounds]


async def test_only_answered_calls_are_shown() -> None:
    t = thread()
    asked = text_message(t)
    rows = [asked, call(t, 1), call(t, 2), output(t, 2), output(t, 7), call(t, 3, step="s2")]
    store, found = await read(t, *rows)
    assert ids(found.past[asked.id]) == [["call_2"]]
    await store.close()


async def test_calls_of_one_reply_are_a_round_with_its_text() -> None:
    t = thread()
    text = text_message(t, "assistant", "run_1", "Let me see.")
    rows = [call(t, 1, extra_fields="x"), call(t, 2), output(t, 2), output(t, 1), call(t, 3, step="s2"), output(t, 3)]
    store, found = await read(t, text_message(t), text, *rows)
    rounds = found.past[text.id]
    assert ids(rounds) == [["call_1", "call_2"], ["call_3"]]
    assert [(one.has_text, one.extra_fields) for one in rounds] == [(True, "x"), (False, "")]
    await store.close()


async def test_a_file_search_is_not_shown_again() -> None:
    t = thread()
    search = item(t, run_id="run_1", type="file_search_call", queries=["a"], results=[])
    store, found = await read(t, text_message(t), search)
    assert found.past == {}
    await store.close()


@pytest.mark.parametrize(
    "large", [{"text": "x" * 5_000}, {"text": "x" * 100}], ids=["by their characters", "by their number"]
)
async def test_no_message_is_left_out_because_of_calls(large: dict[str, str]) -> None:
    t = thread()
    rows: list[Row] = []
    for number in range(600):
        rows += [text_message(t), call(t, number, step=f"s{number}"), output(t, number, large["text"])]
    store, found = await read(t, *rows, max_chars=300_000)
    assert len(found.messages) == 600
    assert not found.clipped
    shown = [one for rounds in found.past.values() for one in rounds]
    assert 0 < len(shown) < 600
    newest: PastRound = found.past[rows[-3].id][0]
    assert newest.calls[0].id == "call_599"
    await store.close()


async def test_no_more_items_are_read_once_the_limit_is_reached() -> None:
    t = thread()
    first = text_message(t)
    items = [row for number in range(3_000) for row in (call(t, number, step=f"s{number}"), output(t, number))]
    store, found = await read(t, first, *items)
    assert [body["id"] for body in found.messages] == [first.id]
    await store.close()
