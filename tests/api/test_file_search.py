"""`file_search` in a run, end to end: what the model is shown, and what the step and the citations contain."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.upstream import Reply, ScriptedUpstream

FERRY = "The ferry to Naxos leaves Piraeus at seven in the morning, on every day but Monday.\n"
TEA = "A pot of green tea is steeped for two minutes, at no more than eighty degrees.\n"
CONTENT = "step_details.tool_calls[*].file_search.results[*].content"
SEARCH = {"type": "file_search"}


def store(api: ApiClient, *texts: str, name: str = "notes") -> str:
    """Create a vector store with an indexed file for each text."""
    files = [api.file(text, name=f"{name}{number}.txt") for number, text in enumerate(texts)]
    made: str = api.post("/vector_stores", {"name": name, "file_ids": files})["id"]
    assert api.wait_processed(f"/vector_stores/{made}")["file_counts"]["completed"] == len(texts)
    return made


def searching(api: ApiClient, *stores: str, **tool: Any) -> str:
    resources = {"file_search": {"vector_store_ids": list(stores)}}
    tools = [{**SEARCH, **({"file_search": tool} if tool else {})}]
    return api.assistant(tools=tools, tool_resources=resources)


def ask(api: ApiClient, assistant: str, text: str = "When does the ferry leave?", **thread: Any) -> dict[str, Any]:
    """Run a new thread to its end; returns the run, its steps, the answer and the events."""
    body = {
        "assistant_id": assistant,
        "stream": True,
        "thread": {"messages": [{"role": "user", "content": text}], **thread},
    }
    return finished(api, "/threads/runs", body)


def finished(api: ApiClient, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    events = []
    with api.client.stream("POST", path, json=body, **options) as answer:
        assert answer.status_code == 200, answer.read()
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name != "done":
                events.append((name, json.loads(line.removeprefix("data: "))))
    run = events[-1][1]
    assert events[-1][0] == "thread.run.completed", run.get("last_error")
    at = f"/threads/{run['thread_id']}/runs/{run['id']}"
    steps = api.get(f"{at}/steps", params={"order": "asc", "include[]": CONTENT})["data"]
    (answer,) = api.get(f"/threads/{run['thread_id']}/messages", params={"run_id": run["id"]})["data"]
    return {"run": run, "at": at, "steps": steps, "events": events, "text": answer["content"][0]["text"]}


def called(query: str = "ferry departure", name: str = "file_search") -> Reply:
    return Reply("", tool_calls=[(name, {"query": query})])


def shown(upstream: ScriptedUpstream) -> str:
    """Return the model's newest prompt as one text."""
    return json.dumps(upstream.requests[-1].body["messages"], ensure_ascii=False)


def test_an_answer_cites_the_passages_that_the_model_was_shown(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream
) -> None:
    at = store(api, FERRY, TEA)
    file_id = search(api, at, "Piraeus")[0]["file_id"]
    script(
        called(),
        Reply(chunks=["It leaves at seven ", "【0:", "0†sou", "rce】【0:0†x】", ".", " 🦉【9:9†source】 [0:1]"]),
    )
    seen = ask(api, searching(api, at))
    text = seen["text"]
    assert text["value"] == "It leaves at seven 【0:0†source】【0:0†x】. 🦉 [0:1]"
    cited = {"type": "file_citation", "file_citation": {"file_id": file_id}}
    assert text["annotations"] == [
        {**cited, "text": "【0:0†source】", "start_index": 19, "end_index": 31},
        {**cited, "text": "【0:0†x】", "start_index": 31, "end_index": 38},
    ]
    for each in text["annotations"]:
        assert text["value"][each["start_index"] : each["end_index"]] == each["text"]
    deltas = [data["delta"]["content"][0]["text"] for name, data in seen["events"] if name == "thread.message.delta"]
    assert "".join(delta["value"] for delta in deltas) == text["value"]
    streamed = [each for delta in deltas for each in delta.get("annotations", ())]
    assert streamed == [{"index": index, **each} for index, each in enumerate(text["annotations"])]
    passages = shown(upstream)
    assert "【0:0†source】" in passages
    assert FERRY.strip() in passages


def search(api: ApiClient, at: str, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.post(f"/vector_stores/{at}/search", {"query": query})["data"]
    return found


def test_the_step_shows_results_and_their_content_on_request(api: ApiClient, script: Callable[..., None]) -> None:
    at = store(api, FERRY, TEA)
    script(called(), Reply("Seven."))
    seen = ask(api, searching(api, at, max_num_results=1, ranking_options={"score_threshold": 0.0}))
    calls_step, message_step = seen["steps"]
    assert [calls_step["type"], calls_step["status"], message_step["type"]] == [
        "tool_calls",
        "completed",
        "message_creation",
    ]
    (call,) = calls_step["step_details"]["tool_calls"]
    assert call["type"] == "file_search"
    assert call["id"].startswith("call_")
    (result,) = call["file_search"]["results"]
    assert call["file_search"]["ranking_options"] == {"ranker": "default_2024_08_21", "score_threshold": 0.0}
    assert result["file_name"] == "notes0.txt"
    assert 0 < result["score"] <= 1
    assert result["content"] == [{"type": "text", "text": FERRY.strip()}] or result["content"][0]["text"] == FERRY
    (plain,) = api.get(f"{seen['at']}/steps/{calls_step['id']}")["step_details"]["tool_calls"]
    assert plain["file_search"]["results"] == [{key: result[key] for key in ("file_id", "file_name", "score")}]
    deltas = [data for name, data in seen["events"] if name == "thread.run.step.delta"]
    assert [delta["delta"]["step_details"]["tool_calls"] for delta in deltas] == [
        [{"index": 0, "type": "file_search", "id": call["id"], "file_search": {}}]
    ]
    done = next(data for name, data in seen["events"] if name == "thread.run.step.completed")
    assert done["step_details"]["tool_calls"] == [plain]


def test_a_stream_shows_content_if_include_asks_for_it(api: ApiClient, script: Callable[..., None]) -> None:
    assistant = searching(api, store(api, FERRY))
    script(called(), Reply("Seven."))
    at = f"/threads/{api.thread('When?')}/runs"
    seen = finished(api, at, {"assistant_id": assistant, "stream": True}, params={"include[]": CONTENT})
    done = next(data for name, data in seen["events"] if name == "thread.run.step.completed")
    assert done["step_details"] == seen["steps"][0]["step_details"]
    assert "content" in done["step_details"]["tool_calls"][0]["file_search"]["results"][0]


def test_only_stores_of_this_assistant_and_thread_are_searched(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream
) -> None:
    mine, threads, _ = (store(api, FERRY.replace("Naxos", island)) for island in ("Naxos", "Paros", "Tinos"))
    script(called(), Reply("Seven."))
    resources = {"file_search": {"vector_store_ids": [threads]}}
    seen = ask(api, searching(api, mine), tool_resources=resources)
    assert len(seen["steps"][0]["step_details"]["tool_calls"][0]["file_search"]["results"]) == 2
    passages = shown(upstream)
    assert [island in passages for island in ("Naxos", "Paros", "Tinos")] == [True, True, False]


def test_an_attached_file_is_searched_when_it_is_indexed(api: ApiClient, script: Callable[..., None]) -> None:
    file_id = api.file(FERRY)
    script(called(), Reply("Seven 【0:0†source】."))
    message = {"role": "user", "content": "When?", "attachments": [{"file_id": file_id, "tools": [SEARCH]}]}
    seen = ask(api, api.assistant(tools=[SEARCH]), messages=[message])
    assert [each["file_citation"]["file_id"] for each in seen["text"]["annotations"]] == [file_id]


def test_each_search_of_a_run_has_its_own_markers(api: ApiClient, script: Callable[..., None]) -> None:
    at = store(api, FERRY, TEA)
    ferry, tea = (search(api, at, query)[0]["file_id"] for query in ("ferry", "tea"))
    two = Reply("", tool_calls=[("file_search", {"query": "ferry"}, "a"), ("file_search", {"query": "tea"}, "b")])
    script(called("ferry"), two, Reply("【0:0†source】 【1:0†source】 【2:0†source】"))
    seen = ask(api, searching(api, at, max_num_results=1))
    assert [each["file_citation"]["file_id"] for each in seen["text"]["annotations"]] == [ferry, ferry, tea]
    assert [len(step["step_details"].get("tool_calls", ())) for step in seen["steps"]] == [1, 2, 0]


def test_markers_of_older_answers_are_not_shown_to_the_model(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream
) -> None:
    assistant = searching(api, store(api, FERRY))
    script(called(), Reply("It leaves at seven 【0:0†source】."), Reply("Yes 【0:0†source】."))
    seen = ask(api, assistant)
    thread = seen["run"]["thread_id"]
    api.post(f"/threads/{thread}/messages", {"role": "user", "content": "Sure?"})
    again = finished(api, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    assert "It leaves at seven ." in shown(upstream)
    assert again["text"] == {"value": "Yes 【0:0†source】.", "annotations": []}


def test_the_tool_is_not_offered_without_files(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream
) -> None:
    script(Reply("Hello."))
    ask(api, api.assistant(tools=[SEARCH]))
    assert "tools" not in upstream.requests[-1].body


def test_search_errors_are_reported_to_the_model(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream
) -> None:
    at = store(api, FERRY)
    assistant = searching(api, at)
    script(called("zebra"), Reply("No."))
    ask(api, searching(api, at, ranking_options={"score_threshold": 1.0}), text="zebra?")
    api.delete(f"/vector_stores/{at}")
    script(called(), Reply("Gone."))
    seen = ask(api, assistant)
    assert "no files to search" in shown(upstream)
    assert seen["steps"][0]["step_details"]["tool_calls"][0]["file_search"]["results"] == []


def test_a_choice_of_file_search_binds_the_first_reply(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream
) -> None:
    function = {"type": "function", "function": {"name": "file_search", "parameters": {"type": "object"}}}
    at = store(api, FERRY)
    tools = [function, SEARCH]
    assistant = api.assistant(tools=tools, tool_resources={"file_search": {"vector_store_ids": [at]}})
    script(called(name="file_search_2"), Reply("Seven."))
    before = len(upstream.requests)
    body = {"assistant_id": assistant, "stream": True, "tool_choice": {"type": "file_search"}}
    seen = finished(api, f"/threads/{api.thread('When?')}/runs", body)
    chosen = [seen.body.get("tool_choice") for seen in upstream.requests[before:]]
    assert chosen == [{"type": "function", "function": {"name": "file_search_2"}}, None]
    assert seen["steps"][0]["step_details"]["tool_calls"][0]["type"] == "file_search"


def test_without_tool_calls_the_newest_message_is_searched_first(
    api: ApiClient, script: Callable[..., None], upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a model cannot decide whether to search."""
    monkeypatch.setattr(upstream, "tools", "refused")
    resources = {"file_search": {"vector_store_ids": [store(api, FERRY, TEA)]}}
    script(Reply("At seven 【0:0†source】."))
    before = len(upstream.requests)
    seen = ask(api, api.assistant(model="toolless", tools=[SEARCH], tool_resources=resources))
    assert [each["text"] for each in seen["text"]["annotations"]] == ["【0:0†source】"]
    assert [step["type"] for step in seen["steps"]] == ["tool_calls", "message_creation"]
    assert FERRY.strip() in shown(upstream)
    assert len(upstream.requests) == before + 1


def test_an_answer_without_markers_cites_its_sources_at_the_end(api: ApiClient, script: Callable[..., None]) -> None:
    at = store(api, FERRY, TEA)
    ferry = search(api, at, "Piraeus")[0]["file_id"]
    script(called(), Reply(chunks=["It leaves Piraeus at ", "seven in the morning."]))
    seen = ask(api, searching(api, at))
    (cited,) = seen["text"]["annotations"]
    assert seen["text"]["value"] == "It leaves Piraeus at seven in the morning." + cited["text"]
    assert [cited["file_citation"]["file_id"], cited["start_index"]] == [ferry, 42]
    script(called(), Reply("I do not know when the ferry leaves."))
    assert ask(api, searching(api, at))["text"]["annotations"] == []
