"""LangServe's routes as its clients use them: RemoteRunnable for Python, and HTTP where that hides details."""

import asyncio
import json
import re
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langserve import RemoteRunnable, add_routes
from langserve.lzstring import LZString
from starlette.testclient import TestClient

from api.app import Access, build_app
from api.depends import Deps
from chains import EmbeddingRouter, ModelRouter, OpenAIBackend, RoutedUpstream, Upstream
from chains.minilm import MiniLm
from documents.extraction import Extractor
from graphs.run_runnable import RunRunnable
from graphs.runner import Runner
from graphs.tools.kinds import open_resources
from graphs.tools.resources import ToolDeps
from retrieval.attachments import Attachments
from retrieval.ingestion import Ingestion
from retrieval.upload_parts import Uploads
from store.blobs import FolderBlobs
from store.free_space import Disks
from store.sqlite.health import SqliteHealth
from store.sqlite.keys import SqliteKeys
from store.sqlite.store import open_store
from store.sqlite.usage import SqliteUsage
from tests.api.conftest import ApiClient
from tests.process import ServerProcess
from tests.upstream import Fail, Reply, ScriptedUpstream

ASKED = {"system": "Be brief.", "human": "hello there"}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


@asynccontextmanager
async def remote(url: str) -> AsyncIterator[RemoteRunnable]:
    """A RemoteRunnable that is closed here, because its own finalizer runs after the end of the loop."""
    runnable = RemoteRunnable(url)
    for finalizer in [one for one in weakref.finalize._registry if one.peek() and one.peek()[0] is runnable]:
        finalizer.detach()
    try:
        yield runnable
    finally:
        runnable.sync_client.close()
        await runnable.async_client.aclose()


@asynccontextmanager
async def open_deps(upstream: ScriptedUpstream, folder: Path) -> AsyncIterator[Deps]:
    """The dependencies of an app in this process."""
    async with AsyncExitStack() as stack:
        store, model = await open_store(), Upstream(upstream.url)
        for part in (store, model):
            stack.push_async_callback(part.close)
        await model.open()
        attachments = Attachments(store, store.file_queries)
        resources = await stack.enter_async_context(open_resources(ToolDeps(store)))
        runner = await stack.enter_async_context(
            Runner(store, OpenAIBackend(model), resources, attachments=attachments)
        )
        blobs, file_queries, vectors = FolderBlobs(folder / "files"), store.file_queries, store.vectors
        await blobs.open()
        ingestion = Ingestion(store, file_queries, blobs, vectors, None, Extractor())
        await stack.enter_async_context(ingestion)
        embeddings = EmbeddingRouter(ModelRouter([RoutedUpstream("", model, OpenAIBackend(model))]), MiniLm())
        uploads = Uploads(store, file_queries, blobs, max_bytes=1000)
        engine, disks = store.engine, Disks()
        health = (SqliteHealth(engine), SqliteKeys(engine), SqliteUsage(engine))
        files = (file_queries, vectors, None, embeddings, blobs, ingestion, uploads, attachments, 1000)
        yield Deps(store, model, runner, {}, *files, *health, disks, folder, disks.free_space(folder))


@pytest.fixture
async def chat(server: ServerProcess) -> AsyncIterator[RemoteRunnable]:
    async with remote(f"{server.url}/chat") as runnable:
        yield runnable


@pytest.fixture
async def assistant(server: ServerProcess) -> AsyncIterator[RemoteRunnable]:
    async with remote(f"{server.url}/assistant") as runnable:
        yield runnable


def chunks_of(answer: httpx2.Response) -> Iterator[dict[str, Any]]:
    """Return the data of a LangServe stream."""
    event = ""
    for line in answer.iter_lines():
        if line.startswith("event:"):
            event = line.removeprefix("event:").strip()
        elif line.startswith("data:") and event == "data":
            yield json.loads(line.removeprefix("data:"))


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        part["text"]["value"]
        for chunk in chunks
        if chunk["event"] == "thread.message.delta"
        for part in chunk["data"]["delta"]["content"]
    )


def test_the_chat_chain_serves_python_s_remote_runnable(chat: RemoteRunnable) -> None:
    assert chat.invoke(ASKED) == "Echo: hello there"
    assert chat.batch([ASKED, ASKED]) == ["Echo: hello there"] * 2
    assert "".join(chat.stream(ASKED)) == "Echo: hello there"


async def test_the_chat_chain_serves_asynchronous_calls(chat: RemoteRunnable, upstream: ScriptedUpstream) -> None:
    config: Any = {"configurable": {"model": "gpt-4o", "temperature": 0.5, "max_tokens": 9}}
    assert await chat.ainvoke(ASKED, config) == "Echo: hello there"
    body = upstream.requests[-1].body
    assert [body["model"], body["temperature"], body["max_tokens"]] == ["test-model", 0.5, 9]
    assert "".join([chunk async for chunk in chat.astream(ASKED)]) == "Echo: hello there"
    logged = [patch async for patch in chat.astream_log(ASKED)]
    assert "hello" in str(logged[-1])
    events = [event["event"] async for event in chat.astream_events(ASKED, version="v2")]
    assert "on_chat_model_stream" in events


def test_a_run_serves_python_s_remote_runnable(assistant: RemoteRunnable) -> None:
    done = assistant.invoke({"content": "hi", "instructions": "Be kind."})
    assert [done["event"], done["text"]] == ["thread.run.completed", "Echo: hi"]
    again = list(
        assistant.stream({"content": "more", "instructions": "Be kind.", "thread_id": done["data"]["thread_id"]})
    )
    assert text_of(again) == "Echo: more"
    assert again[-1]["data"]["assistant_id"] == done["data"]["assistant_id"]
    numbers = [chunk["id"] for chunk in again]
    assert numbers == sorted(set(numbers))
    assert [one["text"] for one in assistant.batch([{"content": "a"}, {"content": "b"}])] == ["Echo: a", "Echo: b"]


async def test_a_run_serves_asynchronous_calls(assistant: RemoteRunnable) -> None:
    assert (await assistant.ainvoke({"content": "hi"}))["text"] == "Echo: hi"
    assert text_of([chunk async for chunk in assistant.astream({"content": "hi"})]) == "Echo: hi"
    assert "thread.run.completed" in str([patch async for patch in assistant.astream_log({"content": "hi"})])


def test_a_waiting_run_is_resumed_with_outputs(assistant: RemoteRunnable, api: ApiClient, script: Any) -> None:
    script(Reply(tool_calls=[("now", {}, "c1")]), Reply("Noon."))
    waiting = assistant.invoke({"content": "time?", "assistant_id": api.assistant(tools=[TOOL])})
    assert waiting["event"] == "thread.run.requires_action"
    (call,) = waiting["data"]["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": call["id"], "output": "12:00"}]
    done = assistant.invoke({"run_id": waiting["data"]["id"], "tool_outputs": outputs})
    assert [done["event"], done["text"]] == ["thread.run.completed", "Noon."]
    assert done["id"] > waiting["id"]


def test_files_of_a_turn_are_searched_in_it_and_the_next(
    assistant: RemoteRunnable, api: ApiClient, upstream: ScriptedUpstream, script: Any
) -> None:
    file_id = api.file("The ferry to Naxos leaves Piraeus at seven.", name="ferry.txt")
    made = api.assistant(tools=[TOOL])
    script(Reply(tool_calls=[("file_search", {"query": "ferry"})]), Reply("At seven 【0:0†source】."))
    done = assistant.invoke({"content": "When?", "assistant_id": made, "file_ids": [file_id]})
    assert done["event"] == "thread.run.completed", done
    assert [tool["type"] for tool in done["data"]["tools"]] == ["function", "file_search"]
    thread = done["data"]["thread_id"]
    asked, answer = api.get(f"/threads/{thread}/messages", params={"order": "asc"})["data"]
    assert [attached["file_id"] for attached in asked["attachments"]] == [file_id]
    assert [each["file_citation"]["file_id"] for each in answer["content"][0]["text"]["annotations"]] == [file_id]
    script(Reply("As I said."))
    again = assistant.invoke({"content": "Sure?", "thread_id": thread})
    assert [tool["type"] for tool in again["data"]["tools"]] == ["file_search"]
    offered = [tool["function"]["name"] for tool in upstream.requests[-1].body["tools"]]
    assert offered == ["file_search"]
    missing = assistant.invoke({"content": "And this?", "file_ids": ["file-none"]})
    assert missing["data"]["error"]["status"] == 404


def test_images_of_a_turn_are_shown_to_the_model(
    assistant: RemoteRunnable, api: ApiClient, upstream: ScriptedUpstream, script: Any
) -> None:
    picture = api.file(b"\x89PNG\r\n\x1a\n" + b"dot" * 9, name="dot.png", purpose="vision")
    for content in ("What is it?", ""):
        script(Reply("A dot."))
        done = assistant.invoke({"content": content, "image_ids": [picture]})
        assert [done["event"], done["text"]] == ["thread.run.completed", "A dot."]
        *text, image = upstream.requests[-1].body["messages"][-1]["content"]
        assert [part["text"] for part in text] == [content] * bool(content)
        assert image["image_url"]["url"].startswith("data:image/png;base64,")
    missing = assistant.invoke({"content": "And this?", "image_ids": ["file-none"]})
    assert missing["data"]["error"]["status"] == 404


def _thread(api: ApiClient, *texts: str) -> tuple[str, list[str]]:
    """Create a thread with these messages, alternating between user and assistant; returns its id and theirs."""
    thread = api.thread()
    roles = ["user", "assistant"] * len(texts)
    result = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return thread, [api.post(f"/threads/{thread}/messages", one)["id"] for one in result]


def _ids(api: ApiClient, thread: str) -> list[str]:
    rows = api.get(f"/threads/{thread}/messages", params={"order": "asc", "limit": 100})["data"]
    return [row["id"] for row in rows]


def _said(upstream: ScriptedUpstream) -> list[str]:
    return [message["content"] for message in upstream.requests[-1].body["messages"]]


def test_a_turn_without_content_runs_the_unchanged_thread(
    assistant: RemoteRunnable, api: ApiClient, upstream: ScriptedUpstream
) -> None:
    thread, ids = _thread(api, "one")
    assert assistant.invoke({"thread_id": thread})["text"] == "Echo: one"
    assert _said(upstream) == ["one"]
    assert _ids(api, thread)[:-1] == ids
    assert assistant.invoke({"thread_id": thread, "file_ids": ["file-a"]})["data"]["error"]["param"] == "content"


@pytest.mark.parametrize("count", [4, 46, 150])
@pytest.mark.parametrize("content", ["anew", ""])
def test_a_turn_replaces_a_message_and_all_later_ones(
    assistant: RemoteRunnable, api: ApiClient, upstream: ScriptedUpstream, count: int, content: str
) -> None:
    """For any number of messages before and after it."""
    texts = [f"n{number}" for number in range(count)]
    thread, ids = _thread(api, *texts)
    for index in (count - 1, 2):
        result = assistant.invoke({"thread_id": thread, "content": content, "replaces": ids[index]})
        assert result["event"] == "thread.run.completed", result
        assert _said(upstream) == [*texts[:index], *([content] if content else [])]
        left = _ids(api, thread)
        assert left[:index] == ids[:index][:100]
        assert len(left) == min(index + 1 + bool(content), 100)
        ids = left
        texts = [*texts[:index], *([content] if content else []), result["text"]]


@pytest.mark.parametrize("why", ["waiting", "assistant", "parameter", "message", "other thread"])
def test_a_refused_turn_replaces_nothing(assistant: RemoteRunnable, api: ApiClient, script: Any, why: str) -> None:
    thread, ids = _thread(api, "one", "two")
    made = api.assistant(tools=[TOOL])
    turn = {"thread_id": thread, "assistant_id": made, "content": "anew", "replaces": ids[0]}
    if why == "waiting":
        script(Reply(tool_calls=[("now", {}, "c1")]))
        assert assistant.invoke({"thread_id": thread, "assistant_id": made})["event"] == "thread.run.requires_action"
    elif why == "assistant":
        api.delete(f"/assistants/{made}")
    else:
        other, (elsewhere,) = _thread(api, "elsewhere")
        changes: dict[str, dict[str, Any]] = {
            "parameter": {"max_completion_tokens": 0},
            "message": {"replaces": "msg_none"},
            "other thread": {"replaces": elsewhere},
        }
        turn |= changes[why]
    result = assistant.invoke(turn)
    assert result["event"] == "error", result
    assert _ids(api, thread) == ids
    if why == "other thread":
        assert _ids(api, other) == [elsewhere]
        assert assistant.invoke({"content": "x", "replaces": elsewhere})["data"]["error"]["param"] == "thread_id"


def test_failures_are_returned_as_data(
    assistant: RemoteRunnable, chat: RemoteRunnable, upstream: ScriptedUpstream
) -> None:
    assert assistant.invoke({})["data"]["error"]["param"] == "content"
    (result,) = assistant.stream({"run_id": "run_none"})
    assert [result["event"], result["data"]["error"]["message"]] == ["error", "No run found with id 'run_none'."]
    (result,) = assistant.stream({"content": "x", "max_completion_tokens": 0})
    assert result["data"]["error"]["param"] == "max_completion_tokens"
    upstream.default = lambda body: Fail(400, {"error": {"message": "no such model"}})
    failed = assistant.invoke({"content": "x"})
    assert failed["event"] == "thread.run.failed"
    assert "no such model" in failed["data"]["last_error"]["message"]
    assert "no such model" in chat.invoke(ASKED)


@pytest.mark.parametrize("path", ["/chat", "/assistant"], ids=["chat", "assistant"])
@pytest.mark.parametrize("way", ["stream", "stream_log"])
def test_leaving_closes_the_upstream_within_a_fifth_of_a_second(
    path: str, way: str, server: ServerProcess, upstream: ScriptedUpstream
) -> None:
    upstream.default = lambda body: Reply("one two three four", pause_after=3)
    closed = upstream.closed_early
    given = ASKED if path == "/chat" else {"content": "count"}
    with httpx2.stream("POST", f"{server.url}{path}/{way}", json={"input": given}) as answer:
        for line in answer.iter_lines():
            if " two" in line:
                break
    left = time.monotonic()
    upstream.wait_for(lambda up: up.closed_early == closed + 1)
    assert time.monotonic() - left < 0.2


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
def test_a_reader_that_resumes_a_run_owns_it(
    on_disconnect: str, server: ServerProcess, api: ApiClient, upstream: ScriptedUpstream, script: Any
) -> None:
    script(Reply(tool_calls=[("now", {}, "c1")]), Reply("one two three four", pause_after=3))
    url, closed = f"{server.url}/assistant", upstream.closed_early
    given = {"content": "time?", "assistant_id": api.assistant(tools=[TOOL])}
    waiting = httpx2.post(f"{url}/invoke", json={"input": given}).json()["output"]["data"]
    (call,) = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": call["id"], "output": "12:00"}]
    resumes = {"run_id": waiting["id"], "tool_outputs": outputs, "on_disconnect": on_disconnect}
    with httpx2.stream("POST", f"{url}/stream", json={"input": resumes}) as answer:
        for line in answer.iter_lines():
            if " two" in line:
                break
    if on_disconnect == "cancel":
        upstream.wait_for(lambda up: up.closed_early == closed + 1)
    upstream.release()
    end = httpx2.post(f"{url}/invoke", json={"input": {"run_id": waiting["id"]}}).json()["output"]["event"]
    assert end == {"cancel": "thread.run.cancelled", "continue": "thread.run.completed"}[on_disconnect]
    assert upstream.closed_early - closed == {"cancel": 1, "continue": 0}[on_disconnect]


def test_a_temperature_of_one_is_not_sent(assistant: RemoteRunnable, upstream: ScriptedUpstream) -> None:
    """The playground's form sends it as its default."""
    for given, sent in ((1, None), (1.0, None), (0.5, 0.5), (0, 0)):
        assistant.invoke({"content": "hi", "temperature": given})
        assert upstream.requests[-1].body.get("temperature") == sent


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields'")  # LangServe's, of its requests
def test_streams_of_runs_equal_langserve_s_byte_for_byte(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Calls, deltas with characters that JSON escapes, a failure, and the frames around them."""
    upstream.script(Reply('Hé "there"\n😀'), Reply(tool_calls=[("now", {})]), Fail(400))
    opened: list[Deps] = []

    @asynccontextmanager
    async def open_next() -> AsyncIterator[Deps]:
        async with open_deps(upstream, tmp_path) as deps:
            opened.append(deps)
            yield deps

    app = build_app(open_next, access=Access(hosts=None), version="0")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        add_routes(app, RunRunnable(opened[0].runner, opened[0].store), path="/plain", enabled_endpoints=["stream"])
        assistant = client.post("/assistants", json={"model": "m", "tools": [TOOL]}).json()["id"]
        given: list[dict[str, Any]] = [{}, {"content": "a", "run_id": "b"}, {"run_id": "run_unknown"}]
        for _ in range(3):
            result = client.post(
                "/assistant/invoke", json={"input": {"content": "hi", "assistant_id": assistant}}
            ).json()
            given += [{"run_id": result["output"]["data"]["id"], "after": after} for after in (-1, 2, 99)]
        for one in given:
            bodies = []
            for path in ("/plain", "/assistant", "/assistant/c/N4XyA"):
                answer = client.post(f"{path}/stream", json={"input": one})
                assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
                bodies.append(re.sub(rb'"run_id": "[0-9a-f-]{36}"', b"", answer.content, count=1))
            assert bodies[0] == bodies[1] == bodies[2], one


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields'")  # LangServe's, of its requests
def test_a_restarted_app_serves_its_new_parts_only(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    opened: list[Deps] = []

    @asynccontextmanager
    async def open_next() -> AsyncIterator[Deps]:
        async with open_deps(upstream, tmp_path) as deps:
            opened.append(deps)
            yield deps

    app = build_app(open_next, access=Access(hosts=None), version="0")
    counts = []
    for _ in range(2):
        with TestClient(app, base_url="http://127.0.0.1") as client:
            counts.append(len(app.routes))
            for path, given in (("/chat", ASKED), ("/assistant", {"content": "hello there"})):
                result = client.post(f"{path}/invoke", json={"input": given}).json()["output"]
                assert "Echo: hello there" in (result, result["text"] if isinstance(result, dict) else "")
    assert counts[0] == counts[1]
    assert len(opened) == 2


def test_a_reader_that_left_reconnects_and_loses_nothing(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.default = lambda body: Reply("one two three four", pause_after=3)
    url, closed = f"{server.url}/assistant/stream", upstream.closed_early
    given = {"content": "count", "on_disconnect": "continue"}
    seen: list[dict[str, Any]] = []
    with httpx2.stream("POST", url, json={"input": given}) as answer:
        for chunk in chunks_of(answer):
            seen.append(chunk)
            if chunk["event"] == "thread.message.delta":
                break
    run_id = next(chunk["data"]["id"] for chunk in seen if chunk["event"] == "thread.run.created")
    for _ in range(2):  # an attached reader leaves too, which stops nothing
        with httpx2.stream("POST", url, json={"input": {"run_id": run_id, "after": seen[-1]["id"]}}) as answer:
            for chunk in chunks_of(answer):
                seen.append(chunk)
                if chunk["event"] == "thread.message.delta" and " two" in str(chunk):
                    break
            else:
                break
        time.sleep(0.1)
        upstream.release()
    assert upstream.closed_early == closed
    assert seen[-1]["event"] == "thread.run.completed"
    assert text_of(seen) == "one two three four"
    assert [chunk["id"] for chunk in seen] == list(range(len(seen)))


@pytest.mark.parametrize("path", ["/chat", "/assistant"], ids=["chat", "assistant"])
def test_a_playground_works_with_local_assets(path: str, server: ServerProcess) -> None:
    page = httpx2.get(f"{server.url}{path}/playground/")
    assert page.status_code == 200
    assets = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.text.split(mark)[1:]]
    assert assets
    for asset in assets:
        assert asset.startswith(f"{path}/playground/"), asset
        assert httpx2.get(server.url + asset).status_code == 200
    assert httpx2.get(f"{server.url}{path}/input_schema").status_code == 200


def config_hash(configurable: dict[str, Any]) -> str:
    """Encode a configuration in a path as LangServe's playgrounds do."""
    spelled: str = LZString.compressToEncodedURIComponent(json.dumps({"configurable": configurable}))
    return spelled


def test_a_shared_playground_has_its_configuration(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    shared = f"{server.url}/chat/c/{config_hash({'temperature': 0.25})}"
    assert httpx2.get(f"{shared}/playground/").status_code == 200
    assert httpx2.get(f"{shared}/input_schema").status_code == 200
    assert httpx2.post(f"{shared}/invoke", json={"input": ASKED}).json()["output"] == "Echo: hello there"
    assert upstream.requests[-1].body["temperature"] == 0.25


def test_no_input_schema_allows_null(server: ServerProcess) -> None:
    """The playground shows a blank page for a schema with a null in it."""
    for path in ("/chat", "/assistant"):
        assert '"null"' not in httpx2.get(f"{server.url}{path}/input_schema").text
        assert '"null"' not in httpx2.get(f"{server.url}{path}/config_schema").text


def test_with_keys_playgrounds_are_closed_and_owners_isolated(keyed: ServerProcess) -> None:
    result = httpx2.get(f"{keyed.url}/chat/playground/", headers={"Authorization": "Bearer key-ann"})
    assert result.status_code == 401
    assert "requires keys" in result.json()["error"]["message"]
    url = f"{keyed.url}/assistant/invoke"
    ann, bob = ({"Authorization": f"Bearer key-{name}"} for name in ("ann", "bob"))
    assert httpx2.post(url, json={"input": {"content": "hi"}}).status_code == 401
    run = httpx2.post(url, json={"input": {"content": "hi"}}, headers=ann).json()["output"]["data"]
    stolen = {"input": {"run_id": run["id"]}, "config": {"configurable": {"__owner": "ann", "owner": "ann"}}}
    assert httpx2.post(url, json=stolen, headers=bob).json()["output"]["event"] == "error"
    hashed = f"{keyed.url}/assistant/c/{config_hash({'__owner': 'ann'})}"
    assert httpx2.post(f"{hashed}/invoke", json=stolen, headers=bob).json()["output"]["event"] == "error"
    assert httpx2.get(f"{hashed}/playground/").status_code == 401
    assert httpx2.post(url, json=stolen, headers=ann).json()["output"]["event"] == "thread.run.completed"


def test_disabled_langserve_routes_are_not_found(server: ServerProcess) -> None:
    for path in ("/chat/feedback", "/assistant/stream_events"):
        assert httpx2.post(server.url + path, json={"input": {}}).status_code == 404
    plain = httpx2.post(f"{server.url}/chat/invoke", content="{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415


async def test_ten_readers_run_concurrently(assistant: RemoteRunnable) -> None:
    answers = await asyncio.gather(*(assistant.ainvoke({"content": f"n{n}"}) for n in range(10)))
    assert [answer["text"] for answer in answers] == [f"Echo: n{n}" for n in range(10)]
