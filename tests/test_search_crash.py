"""SIGKILL while a run answers from files, and a restart: its search is kept, and the answer has each citation once."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.process import ServerProcess
from tests.test_crash import messages, replay, stream, wait_for_run
from tests.upstream import Reply, ScriptedUpstream

FERRY = "The ferry to Naxos leaves at seven."


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def server(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, MODEL_URL=upstream.url, EMBEDDINGS_MODEL="of-words") as process:
        yield process


def test_an_interrupted_cited_answer_restarts_with_its_citations(
    server: ServerProcess, upstream: ScriptedUpstream
) -> None:
    sent = {"files": {"file": ("ferry.txt", FERRY.encode())}, "data": {"purpose": "assistants"}}
    file_id = httpx2.post(f"{server.url}/v1/files", timeout=10, **sent).json()["id"]
    attached = {"file_id": file_id, "tools": [{"type": "file_search"}]}
    asked = {"role": "user", "content": "When?", "attachments": [attached]}
    thread = server.request("POST", "/v1/threads", {"messages": [asked]})["id"]
    assistant = server.request("POST", "/v1/assistants", {"model": "m", "tools": attached["tools"]})["id"]
    cited = "At seven 【0:0†source】, each day 【0:0†source】."
    upstream.script(Reply(tool_calls=[("file_search", {"query": "ferry"})]), Reply(cited, pause_after=6), Reply(cited))
    body = {"assistant_id": assistant, "stream": True}
    seen = stream(server, f"/v1/threads/{thread}/runs", body, "thread.message.delta", 3)
    run = seen[0][2]["id"]
    server.kill()
    server.start()
    wait_for_run(server, thread, run, "completed")
    (answer,) = [one for one in messages(server, thread) if one["role"] == "assistant"]
    text = answer["content"][0]["text"]
    assert text["value"] == cited
    assert [each["file_citation"]["file_id"] for each in text["annotations"]] == [file_id, file_id]
    later = replay(server, thread, run, after=seen[-1][0])
    deltas = [data["delta"]["content"][0]["text"] for _, name, data in later if name == "thread.message.delta"]
    assert [each["index"] for delta in deltas for each in delta.get("annotations", ())] == [0, 1]
    steps = server.request("GET", f"/v1/threads/{thread}/runs/{run}/steps?order=asc")["data"]
    assert [(step["type"], step["status"]) for step in steps] == [
        ("tool_calls", "completed"),
        ("message_creation", "completed"),
    ]
    (result,) = steps[0]["step_details"]["tool_calls"][0]["file_search"]["results"]
    assert result["file_name"] == "ferry.txt"
    assert len(upstream.requests) == 3
    assert FERRY in json.dumps(upstream.requests[-1].body)
