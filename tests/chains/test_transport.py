"""The transport to the upstream: retries, timeouts, dead connections, closing, TLS, proxies. All with real sockets."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from langchain_core.messages import AIMessageChunk, HumanMessage

from chains import OpenAIBackend, ReplyCall, RetryPolicy, Upstream
from chains.forwarding import Outgoing
from tests.chains.conftest import FAST, Connect, certified, trust
from tests.upstream import Fail, Hang, Raw, Reply, ScriptedUpstream, Step
from wire.errors import PromptRefused, RateLimited, RunError, UpstreamFailed

CALL = ReplyCall(model="test-model", messages=[HumanMessage("hello there")])
CLOSED_WITHIN_S = 0.02


async def text(upstream: Upstream) -> str:
    return "".join([str(chunk.content) async for chunk in OpenAIBackend(upstream).stream(CALL)])


async def error_of(upstream: Upstream) -> RunError:
    with pytest.raises(RunError) as caught:
        await text(upstream)
    return caught.value


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
async def test_a_transient_failure_is_retried_twice(up: ScriptedUpstream, connect: Connect, status: int) -> None:
    upstream = await connect(up.url)
    up.script(Fail(status), Fail(status, "<html>busy</html>"))
    assert await text(upstream) == "Echo: hello there"
    assert len(up.requests) == 3
    up.script(Fail(status), Fail(status), Fail(status), Fail(status))
    assert isinstance(await error_of(upstream), RateLimited if status == 429 else RunError)
    assert len(up.requests) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_permanent_refusal_is_not_retried(up: ScriptedUpstream, connect: Connect, status: int) -> None:
    up.script(Fail(status))
    await error_of(await connect(up.url))
    assert len(up.requests) == 1


async def test_a_dropped_new_connection_is_retried_twice(up: ScriptedUpstream, connect: Connect) -> None:
    port = await refusing_server(drops=2, then=up.port)
    async with port as url:
        assert await text(await connect(url)) == "Echo: hello there"
    async with await refusing_server(drops=9, then=up.port) as url:
        error = await error_of(await connect(url))
        assert type(error) is UpstreamFailed
        assert "closed the connection" in error.message


async def test_an_unreachable_host_is_named(connect: Connect) -> None:
    with ScriptedUpstream() as gone:
        url = gone.url
    error = await error_of(await connect(url))
    assert type(error) is UpstreamFailed
    assert url.split("/")[2] in error.message
    assert "Is the upstream running" in error.message
    error = await error_of(await connect("http://no-such-host.invalid/v1"))
    assert "no-such-host.invalid" in error.message


@pytest.mark.parametrize(
    ("headers", "waits_s"),
    [
        ({"Retry-After": "0.15"}, 0.15),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "3600"}, 0.2),  # capped
        ({"retry-after-ms": "100", "Retry-After": "9"}, 0.1),
        ({"Retry-After": "soon"}, 0.0075),  # the back-off
        ({}, 0.0075),
    ],
)
async def test_retry_after_is_honoured_and_capped(
    up: ScriptedUpstream, connect: Connect, headers: dict[str, str], waits_s: float
) -> None:
    up.script(Fail(429, headers=headers))
    await text(await connect(up.url))
    first, second = (seen.at for seen in up.requests)
    assert waits_s <= second - first < waits_s + 0.1


async def test_cancelling_in_a_back_off_ends_immediately(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Fail(429, headers={"Retry-After": "50"}))
    task = asyncio.create_task(text(await connect(up.url, limits=replace(FAST, retry=RetryPolicy()))))
    await up.eventually(lambda up: up.finished == 1)
    await cancel(task)
    assert len(up.requests) == 1


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [Hang(), Reply("one two three", pause_after=2)], ids=["first byte", "in mid-stream"])
async def test_silence_has_a_limit_and_is_not_retried(up: ScriptedUpstream, connect: Connect, step: Step) -> None:
    up.script(step)
    upstream = await connect(up.url, limits=replace(FAST, idle_s=0.1))
    started = time.monotonic()
    error = await error_of(upstream)
    assert 0.1 <= time.monotonic() - started < 1
    assert type(error) is UpstreamFailed
    assert "silent for 0.1 s" in error.message
    assert "UPSTREAM_TIMEOUT_S" in error.message
    assert len(up.requests) == 1
    await up.eventually(lambda up: up.open_streams == 0)


async def test_an_answer_can_last_longer_than_the_limit_of_silence(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("a b c d e f g h", delay_s=0.05))
    assert await text(await connect(up.url, limits=replace(FAST, idle_s=0.2))) == "a b c d e f g h"


async def test_a_slow_reader_causes_no_silence(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("a b c d e f", delay_s=0.05))
    received = ""
    asked = ReplyCall(model="m", messages=[HumanMessage("hello")])
    async for chunk in OpenAIBackend(await connect(up.url, limits=replace(FAST, idle_s=0.15))).stream(asked):
        received += str(chunk.content)
        if received in ("a ", "a b c "):
            await asyncio.sleep(0.4)
    assert received == "a b c d e f"


async def test_after_the_finish_reason_the_connection_is_not_awaited(up: ScriptedUpstream, connect: Connect) -> None:
    finish = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    upstream = await connect(up.url)
    up.script(Raw([finish, b"data: [DONE]\n\n"], then="hang"))
    started = time.monotonic()
    assert await text(upstream) == "x"
    assert time.monotonic() - started < 0.5
    await up.eventually(lambda up: up.closed_early == 1)
    up.script(Raw([finish], then="hang"))
    assert await text(upstream) == "x"
    assert time.monotonic() - started < 4
    await up.eventually(lambda up: up.closed_early == 2)


# --- closing ----------------------------------------------------------------------------------------------------------

SILENT_STALLED_STREAMING = {
    "silent": Hang(),
    "stalled": Reply("one two three", pause_after=2),
    "streaming": Reply("word " * 2000, delay_s=0.005),
}


@pytest.mark.parametrize("step", SILENT_STALLED_STREAMING.values(), ids=SILENT_STALLED_STREAMING)
async def test_cancelling_closes_the_upstream_immediately(up: ScriptedUpstream, connect: Connect, step: Step) -> None:
    upstream = await connect(up.url)
    took_s = []
    for _ in range(5):
        up.script(step)
        task = asyncio.create_task(text(upstream))
        seen = len(up.requests)
        await up.eventually(lambda up, seen=seen: len(up.requests) > seen)  # type: ignore[misc]
        await asyncio.sleep(0.03)
        closed = up.closed_early
        started = time.monotonic()
        await cancel(task)
        await up.eventually(lambda up, closed=closed: up.closed_early > closed)  # type: ignore[misc]
        took_s.append(up.closed_at[-1] - started)
    assert min(took_s) < CLOSED_WITHIN_S, took_s  # a delay of ours would be in each of them
    assert up.open_streams == 0


async def test_closing_the_iterator_closes_the_upstream_immediately(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("one two three", pause_after=2))
    stream = OpenAIBackend(await connect(up.url)).stream(CALL)
    async with aclosing(stream):  # type: ignore[type-var]
        async for chunk in stream:
            assert isinstance(chunk, AIMessageChunk)
            if chunk.content:
                break
    await asyncio.sleep(0)  # one iteration for the socket; nothing else is left to garbage collection
    up.wait_for(lambda up: up.closed_early == 1, timeout_s=1)  # blocks the loop on purpose


async def test_many_streams_run_concurrently(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    up.default = lambda _: Reply("one two", pause_after=2)
    tasks = [asyncio.create_task(text(upstream)) for _ in range(150)]
    await up.eventually(lambda up: up.open_streams == 150)
    up.release()
    assert set(await asyncio.gather(*tasks)) == {"one two"}


# --- kept connections -------------------------------------------------------------------------------------------------


async def test_a_connection_is_reused(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    for _ in range(4):
        await text(upstream)
    up.script(Fail(400))
    await error_of(upstream)
    await text(upstream)
    assert len({seen.peer for seen in up.requests}) <= 2  # the first one runs next to the listing of the models


async def test_a_failure_before_connecting_is_not_retried_forever(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = await connect(up.url)
    tried = 0

    async def broken(*_: Any, **__: Any) -> Any:
        nonlocal tried
        tried += 1
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", broken)
    assert isinstance(await error_of(upstream), UpstreamFailed)
    assert 1 <= tried <= 10_000


async def test_a_dead_kept_connection_is_replaced_without_counting(up: ScriptedUpstream, connect: Connect) -> None:
    slow = replace(FAST, retry=RetryPolicy(retries=0, backoff_s=5.0))
    async with await refusing_server(drops=0, then=up.port, requests_a_connection=1) as url:
        upstream = await connect(url, limits=slow)
        started = time.monotonic()
        assert await asyncio.gather(*(text(upstream) for _ in range(5)))  # five kept connections, all of which die soon
        for _ in range(6):
            assert await text(upstream) == "Echo: hello there"
        assert time.monotonic() - started < 2
    assert len(up.requests) == 11


class StoredForm:
    """A form that is read while it is sent."""

    model = ""

    def encode(self, model: str) -> Outgoing:
        async def blocks() -> AsyncIterator[bytes]:
            for number in range(3):
                yield bytes([number]) * 1000

        return Outgoing(f"multipart/form-data; boundary={model or 'b'}", 3000, blocks)


async def test_a_form_is_resent_completely_after_a_dead_connection(up: ScriptedUpstream, connect: Connect) -> None:
    up.raw["/v1/audio/transcriptions"] = Raw([b"done"], content_type="text/plain")
    async with await refusing_server(drops=0, then=up.port, requests_a_connection=1) as url:
        upstream = await connect(url)
        for _ in range(4):
            response = await upstream.pass_through(StoredForm(), "/audio/transcriptions")
            assert b"".join([block async for block in response.blocks()]) == b"done"
    assert [len(seen.body) for seen in up.raw_seen] == [3000] * 4


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_tls_trusts_the_authorities_of_ssl_cert_file(
    secure_up: tuple[ScriptedUpstream, trustme.CA], connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    up, authority = secure_up
    trust(authority, tmp_path, monkeypatch)
    upstream = await connect(up.url)
    assert await text(upstream) == "Echo: hello there"
    up.script(Reply("one two three", pause_after=2))
    task = asyncio.create_task(text(upstream))
    # The second request: the server can still have the first open when the client has read its answer.
    await up.eventually(lambda up: len(up.requests) == 2, asked_by=task)
    await cancel(task)
    await up.eventually(lambda up: up.closed_early == 1)


async def test_an_unknown_authority_is_refused_immediately_with_advice(
    secure_up: tuple[ScriptedUpstream, trustme.CA], connect: Connect
) -> None:
    up, _ = secure_up
    error = await error_of(
        await connect(up.url, limits=replace(FAST, retry=RetryPolicy(backoff_s=30, max_backoff_s=30)))
    )
    assert type(error) is UpstreamFailed
    assert "SSL_CERT_FILE" in error.message
    assert not up.requests


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
async def test_http_goes_through_the_proxy_with_its_credentials(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(up.port) as (port, seen):
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pass@127.0.0.1:{port}")
        assert await text(await connect("http://upstream.example/v1")) == "Echo: hello there"
        assert seen[0].startswith("POST http://upstream.example/v1/chat/completions")
        assert "proxy-authorization: basic dxnlcjpwyxnz" in seen[0].lower()
        monkeypatch.setenv("NO_PROXY", "upstream.example")
        await error_of(await connect("http://upstream.example/v1", limits=replace(FAST, retry=RetryPolicy(retries=0))))
        await text(await connect(up.url))
        assert len([head for head in seen if head.startswith("POST")]) == 1


@pytest.mark.usefixtures("no_proxies")
async def test_https_goes_through_a_tunnel(connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context, authority = certified("upstream.example")
    trust(authority, tmp_path, monkeypatch)
    with ScriptedUpstream(ssl_context=context) as up:
        async with proxy_to(up.port) as (port, seen):
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            assert await text(await connect("https://upstream.example/v1")) == "Echo: hello there"
            assert seen[0].startswith("CONNECT upstream.example:443")
            assert "authorization" not in seen[0].lower()


@pytest.mark.usefixtures("no_proxies")
async def test_a_failing_proxy_is_named(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    error = await error_of(await connect("https://upstream.example/v1"))
    assert type(error) is UpstreamFailed
    assert "proxy" in error.message


async def test_a_closed_upstream_fails_the_run_and_not_the_server(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    await upstream.close()
    assert not isinstance(await error_of(upstream), PromptRefused)


# --- servers and proxies ----------------------------------------------------------------------------------------------


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(connected: Connected) -> AsyncIterator[int]:
    """Serve TCP; all connections are closed at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await connected(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(65536):
                writer.write(block)
                await writer.drain()
    finally:
        writer.close()


async def refusing_server(*, drops: int, then: int, requests_a_connection: int = 99) -> Any:
    """Close the first connections without an answer, and each further one after this many requests."""
    left = drops

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        if left:
            left -= 1
            await reader.read(100)
            return
        for _ in range(requests_a_connection):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", then)
            upstream_writer.write(head + body)
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                answer += await upstream_reader.read(65536)
            upstream_writer.close()
            writer.write(answer)
        await reader.read(1)  # the next request: close without an answer

    @asynccontextmanager
    async def world() -> AsyncIterator[str]:
        async with tcp_server(connected) as port:
            yield f"http://127.0.0.1:{port}/v1"

    return world()


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[tuple[int, list[str]]]:
    """Run a forward proxy that connects every host name to one local port; also yields the heads of its requests."""
    seen: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode())
        there, back = await asyncio.open_connection("127.0.0.1", target)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            back.write(head)
        async with asyncio.TaskGroup() as group:
            group.create_task(relay(reader, back))
            group.create_task(relay(there, writer))

    async with tcp_server(connected) as port:
        yield port, seen


# --- informational responses ------------------------------------------------------------------------------------------


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + b"".join(
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
)


@contextlib.asynccontextmanager
async def preceded(interim: bytes, times: int) -> AsyncIterator[str]:
    """Run a server that sends informational responses before its answer, as fast as they are read."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            await reader.readexactly(int(size.partition(b":")[2]))
            for _ in range(times):
                writer.write(interim)
                await writer.drain()
            writer.write(ANSWER)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"


@pytest.mark.parametrize("interim", [CONTINUE, HINTS], ids=["100", "103"])
async def test_a_few_informational_responses_are_ignored(connect: Connect, interim: bytes) -> None:
    async with preceded(interim, 90) as url:
        assert await text(await connect(url)) == "Hi"


@pytest.mark.parametrize("interim", [CONTINUE * 500, HINTS * 500, CONTINUE], ids=["100", "103", "apart"])
async def test_a_flood_of_informational_responses_ends_the_request(connect: Connect, interim: bytes) -> None:
    async with preceded(interim, 100_000) as url:
        upstream = await connect(url)
        async with asyncio.timeout(60):
            assert "gave no usable HTTP answer" in (await error_of(upstream)).message
