"""A kind of tool is its wire object, its file and its registration: nothing else of the server knows it by name.

The server of these tests (`directory_server.py`) has one more kind, with a secret, a list of functions that another
server has, approvals, and an object of its own in run steps.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient
from tests.graphs.tools.apis import Answer, Api, Seen
from tests.ops.command import command
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

pytestmark = pytest.mark.slow

TOKEN = "token-of-ann"
MASK = "********"


@dataclass
class Directory:
    """Another server with functions."""

    functions: list[str] = field(default_factory=lambda: ["look up"])
    status: int = 200

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Answer(401)
        if seen.method == "GET":
            return Answer(self.status, body=json.dumps(self.functions).encode())
        return Answer(body=b"found " + seen.body)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    program = "tests/graphs/tools/directory_server.py"
    folder = tmp_path_factory.mktemp("kind")
    with ServerProcess(folder, program=program, bare=True, MODEL_URL=upstream.url, EMBEDDINGS_MODEL="none") as process:
        yield process


@pytest.fixture
def api(server: ServerProcess) -> Iterator[ApiClient]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield ApiClient(client)


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def other(directory: Directory) -> Iterator[Api]:
    with Api(directory.answer) as served:
        yield served


def tool(other: Api, **more: Any) -> dict[str, Any]:
    return {"type": "directory", "label": "people", "server_url": other.url, "token": TOKEN, **more}


def steps(api: ApiClient, run: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/threads/{run['thread_id']}/runs/{run['id']}/steps?order=asc")["data"]
    return found


def test_a_run_calls_the_functions_that_were_listed(api: ApiClient, upstream: ScriptedUpstream, other: Api) -> None:
    upstream.script(Reply(tool_calls=[("look_up", {"name": "bob"})]), Reply("Done."))
    run = api.wait_ended(api.run(tools=[tool(other)]))
    assert run["status"] == "completed", run["last_error"]
    assert [(seen.method, seen.path) for seen in other.seen] == [
        ("GET", "/functions"),
        ("POST", "/functions/look%20up"),
    ]
    (call,) = steps(api, run)[0]["step_details"]["tool_calls"]
    result = 'found {"name":"bob"}'
    assert call["type"] == "directory"
    assert call["directory"] == {"function": "look_up", "arguments": {"name": "bob"}, "result": result}
    assert upstream.requests[-1].body["messages"][-1]["content"] == result


def test_its_secret_is_masked_and_kept_out_of_dumps(
    api: ApiClient, server: ServerProcess, upstream: ScriptedUpstream, other: Api
) -> None:
    upstream.script(Reply("Hello."))
    run = api.wait_ended(api.run(tools=[tool(other)]))
    read = api.get(f"/assistants/{run['assistant_id']}")
    assert (read["tools"], run["tools"]) == ([tool(other, token=MASK)], [tool(other, token=MASK)])
    dump = command(server.log.parent, "export")
    assert TOKEN not in dump.stdout
    assert MASK in dump.stdout
    with sqlite3.connect(f"file:{server.log.parent / 'threadhold.db'}?mode=ro", uri=True) as rows:
        bodies = rows.execute("SELECT body FROM assistants UNION ALL SELECT body FROM runs").fetchall()
    assert bodies
    assert not any(TOKEN in str(body) for body in bodies)


def test_its_secret_is_restored_for_the_same_origin_only(
    api: ApiClient, upstream: ScriptedUpstream, other: Api
) -> None:
    assistant = api.assistant(tools=[tool(other)])
    api.post(f"/assistants/{assistant}", {"tools": [tool(other, token=MASK, server_url=f"{other.url}/v2")]})
    for changed in ({"server_url": "http://evil.example"}, {"server_url": "no URL"}):
        refused = api.post(f"/assistants/{assistant}", {"tools": [tool(other, token=MASK, **changed)]}, 400)
        assert refused["error"]["param"] == "tools[0].token"
        assert "the directory calls another address now" in refused["error"]["message"]
    upstream.script(Reply("Hello."))
    run = api.post("/threads/runs", {"assistant_id": assistant, "thread": {"messages": []}})
    assert api.wait_ended(run)["status"] == "completed"
    assert [(seen.path, seen.headers["Authorization"]) for seen in other.seen] == [("/v2/functions", f"Bearer {TOKEN}")]


@pytest.mark.parametrize(
    ("decision", "functions", "result"),
    [
        ("approved", ["look up"], "found {}"),
        ("denied", ["look up"], "The user denied this call; it was not made."),
        ("approved", [], "This function is no longer available; it was not called."),
    ],
    ids=["approved", "denied", "no longer listed"],
)
def test_its_calls_wait_for_approval(
    api: ApiClient,
    upstream: ScriptedUpstream,
    directory: Directory,
    other: Api,
    decision: str,
    functions: list[str],
    result: str,
) -> None:
    upstream.script(Reply(tool_calls=[("look_up", {})]), Reply("Done."))
    run = api.wait_ended(api.run(tools=[tool(other, require_approval=True)]))
    assert run["status"] == "requires_action"
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    (approval,) = api.get(f"{path}/approvals")["data"]
    assert (approval["url"], approval["body"]) == (f"{other.url}/functions/look up", "{}")
    assert TOKEN not in json.dumps(approval)
    directory.functions[:] = functions
    outputs = [{"tool_call_id": approval["tool_call_id"], "output": decision}]
    api.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
    assert api.wait_ended(run)["status"] == "completed"
    (call,) = steps(api, run)[0]["step_details"]["tool_calls"]
    assert call["directory"]["result"] == result
    called = [seen.path for seen in other.seen if seen.method == "POST"]
    assert called == (["/functions/look%20up"] if result.startswith("found") else [])


def test_a_list_that_fails_fails_the_run(api: ApiClient, directory: Directory, other: Api) -> None:
    directory.status = 503
    run = api.wait_ended(api.run(tools=[tool(other)]))
    assert (run["status"], run["last_error"]) == (
        "failed",
        {"code": "server_error", "message": "The directory `people` answered with status 503."},
    )
    assert api.get(f"/threads/{run['thread_id']}/messages")["data"][0]["role"] == "user"


def test_an_invalid_tool_is_refused_without_asking_its_server(api: ApiClient, other: Api) -> None:
    refused = api.post("/assistants", {"model": "m", "tools": [tool(other, server_url="ftp://x")]}, 400)
    assert refused["error"]["param"] == "tools[0].server_url"
    unknown = api.post("/assistants", {"model": "m", "tools": [{"type": "none"}]}, 400)
    assert "'directory'" not in unknown["error"]["message"]
    assert other.seen == []
