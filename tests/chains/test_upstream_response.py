"""`/chat/completions` passed through: bytes as they arrive, errors unchanged, closed when the client disconnects."""

import asyncio
import time
from contextlib import aclosing

import orjson
import pytest

from chains import CallLimits, RetryPolicy
from tests.chains.conftest import Connect
from tests.upstream import Fail, Hang, Raw, Reply, ScriptedUpstream
from wire.errors import InvalidRequest, NotFound, Unavailable, UpstreamProblem

HASTY = CallLimits(idle_s=0.1, connect_s=2.0, retry=RetryPolicy(retries=0))
BODY = {
    "model": "org/test-model",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [],
    "seed": 7,
    "user": None,
}


async def test_a_complete_answer_passes_unchanged(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url, api_key="sk-ours")
    response = await upstream.pass_through({**BODY, "max_tokens": -1})
    assert (response.status, response.content_type) == (200, "application/json")
    assert response.body is not None
    assert orjson.loads(response.body)["choices"][0]["message"]["content"] == "Echo: hi"
    assert up.requests[-1].body == {**BODY, "model": "test-model"}
    assert up.requests[-1].headers["authorization"] == "Bearer sk-ours"


async def test_a_stream_passes_byte_by_byte_as_it_arrives(up: ScriptedUpstream, connect: Connect) -> None:
    parts = [b"data: {nope\r\n\r\n", b": odd\n\n", "data: é".encode()[:-1], b"\xa9\n\n", b"data: [DONE]"]
    up.script(Raw(parts, delay_s=0.01))
    response = await (await connect(up.url)).pass_through({**BODY, "stream": True})
    assert (response.status, response.content_type, response.body) == (200, "text/event-stream", None)
    assert [block async for block in response.blocks()] == parts


async def test_the_first_block_arrives_before_the_last_is_written(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("one two", pause_after=2))
    response = await (await connect(up.url)).pass_through({**BODY, "stream": True})
    async with aclosing(response.blocks()) as blocks:  # type: ignore[type-var]
        assert b"choices" in await anext(blocks)
        up.release()
        assert b"[DONE]" in b"".join([block async for block in blocks])


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
async def test_errors_pass_with_status_and_body_without_a_retry(
    up: ScriptedUpstream, connect: Connect, status: int
) -> None:
    error = {"error": {"message": "because", "type": "t", "param": "p", "code": "c"}}
    up.script(Fail(status, error, {"Retry-After": "7"}))
    for stream in (False, True):
        up.script(Fail(status, error, {"Retry-After": "7"}))
        response = await (await connect(up.url)).pass_through({**BODY, "stream": stream})
        assert response.status == status
        assert response.content_type == "application/json"
        assert response.headers == {"Retry-After": "7"}
        assert orjson.loads(response.body or b"") == error
    assert len(up.requests) == 2


@pytest.mark.parametrize("value", [b"\xe6\xbc\xa2", b"\xe9", b"\xff\xfe", b"\x01\x7f"])
@pytest.mark.parametrize("status", [200, 429])
async def test_headers_that_cannot_be_sent_are_not_passed_on(connect: Connect, status: int, value: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json; x=%b\r\nRetry-After: %b\r\n" % (status, value, value)
        writer.write(head + b"retry-after-ms: 5\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        upstream = await connect(f"http://127.0.0.1:{port}/v1")
        if status == 200:
            response = await upstream.pass_through(BODY)
            assert (response.content_type, response.headers) == ("application/octet-stream", {"retry-after-ms": "5"})
            response.close()
        else:
            with pytest.raises(UpstreamProblem) as caught:  # without its type, the error is not known to be JSON
                await upstream.pass_through(BODY)
            assert caught.value.http_status == 429


@pytest.mark.parametrize("status", [401, 200])
async def test_our_key_is_not_passed_on(up: ScriptedUpstream, connect: Connect, status: int) -> None:
    up.script(Fail(status, {"error": {"message": "Incorrect API key provided: sk-ours"}}))
    response = await (await connect(up.url, api_key="sk-ours")).pass_through(BODY)
    assert b"sk-ours" not in (response.body or b"")
    assert b"Incorrect" in (response.body or b"")


async def test_our_key_is_not_passed_on_in_a_stream(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Raw([b'data: {"error": {"message": "Incorrect API key provided: sk-o', b'urs"}}\n\n'], delay_s=0.05))
    response = await (await connect(up.url, api_key="sk-ours")).pass_through({**BODY, "stream": True})
    assert b"".join([block async for block in response.blocks()]).endswith(b'provided: ***"}}\n\n')


@pytest.mark.parametrize(
    ("step", "status", "pattern"),
    [
        (Fail(502, "<h1>Bad gateway</h1>"), 502, "Bad gateway"),
        (Fail(404, "not here"), 404, "MODEL_URL"),
        (Fail(307, "", {"Location": "http://elsewhere/"}), 502, "redirects"),
    ],
    ids=["html 502", "text 404", "redirect"],
)
async def test_a_body_that_is_not_json_becomes_an_error(
    up: ScriptedUpstream, connect: Connect, step: Fail, status: int, pattern: str
) -> None:
    up.script(step)
    with pytest.raises(UpstreamProblem, match=pattern) as caught:
        await (await connect(up.url)).pass_through(BODY)
    assert caught.value.http_status == status


async def test_no_upstream_is_an_error(connect: Connect) -> None:
    with pytest.raises(Unavailable, match="Set MODEL_URL"):
        await (await connect(None)).pass_through(BODY)
    with ScriptedUpstream() as gone:
        url = gone.url
    with pytest.raises(UpstreamProblem, match="cannot be reached") as caught:
        await (await connect(url)).pass_through(BODY)
    assert caught.value.http_status == 502


async def test_silence_is_a_504(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Hang())
    with pytest.raises(UpstreamProblem, match="silent") as caught:
        await (await connect(up.url, limits=CallLimits(0.1, 0.1))).pass_through(BODY)
    assert caught.value.http_status == 504


async def test_a_bad_body_is_an_invalid_request(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    with pytest.raises(InvalidRequest):
        await upstream.pass_through({**BODY, "model": 3})
    with pytest.raises(InvalidRequest):
        await upstream.pass_through({**BODY, "user": "\ud800"})


async def test_a_break_in_mid_stream_ends_with_an_error_frame(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("one two three", cut_after=2))
    response = await (await connect(up.url)).pass_through({**BODY, "stream": True})
    *_, last = [block async for block in response.blocks()]
    assert "the upstream broke off" in orjson.loads(last.split(b"data: ")[1])["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_answer_closes_the_upstream(
    up: ScriptedUpstream, connect: Connect, stream: bool
) -> None:
    up.script(Hang())
    upstream = await connect(up.url)
    task = asyncio.create_task(upstream.pass_through({**BODY, "stream": stream}))
    await up.eventually(lambda up: up.open_streams == 1)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.eventually(lambda up: up.closed_early == 1)
    assert up.closed_at[-1] - started < 1  # test_transport.py measures how fast


async def test_a_client_that_leaves_in_mid_stream_closes_the_upstream(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    for leave in ("iterator", "passage"):
        up.script(Reply("one two", pause_after=2))
        response = await upstream.pass_through({**BODY, "stream": True})
        async with aclosing(response.blocks()) as blocks:  # type: ignore[type-var]
            await anext(blocks)
            closed = up.closed_early
            if leave == "iterator":
                await blocks.aclose()
            else:
                response.close()
            await up.eventually(lambda up, closed=closed: up.closed_early > closed)  # type: ignore[misc]


async def test_silence_in_mid_stream_ends_with_an_error_frame(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Raw([b"data: {}\n\n"], then="hang"))
    upstream = await connect(up.url, limits=HASTY)
    response = await upstream.pass_through({**BODY, "stream": True})
    *_, last = [block async for block in response.blocks()]
    assert "was silent for 0.1 s" in orjson.loads(last.split(b"data: ")[1])["error"]["message"]
    assert upstream.outcomes == {("ok",): 2, ("silent",): 1}  # the listing, and the head


async def test_an_endless_answer_is_refused_before_it_fills_the_memory(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chains.upstream_response.MAX_ANSWER_BYTES", 1 << 20)
    up.script(Raw([b" " * 65_536] * 20, content_type="application/json"))
    with pytest.raises(UpstreamProblem, match=r"more than 1 MiB.*MAX_REPLY_TOKENS"):
        await (await connect(up.url)).pass_through(BODY)


OVERFLOWS = {
    "llama.cpp": (
        400,
        {
            "code": 400,
            "message": "request (9031 tokens) exceeds the available context size (8192 tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9031,
            "n_ctx": 8192,
        },
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9031 tokens. "
        "Please reduce the length of the messages.",
    ),
    "vllm": (
        400,
        {
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
            "(4000 in the messages, 1000 in the completion). Please reduce the length.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, "
        "1000 in the completion). Please reduce the length of the messages or completion.",
    ),
    "ollama": (500, "input length exceeds the context length", "input length exceeds the context length."),
    "anthropic": (
        413,
        {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"},
        "This model's maximum context length is 200000 tokens. However, your messages resulted in 210000 tokens. "
        "Please reduce the length of the messages.",
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("status", "overflow", "message"), OVERFLOWS.values(), ids=OVERFLOWS)
async def test_every_server_s_overflow_becomes_openai_s(
    up: ScriptedUpstream, connect: Connect, status: int, overflow: object, message: str, stream: bool
) -> None:
    up.script(Fail(status, {"error": overflow}))
    response = await (await connect(up.url)).pass_through({**BODY, "stream": stream})
    error = {"type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    assert response.status == 400
    assert orjson.loads(response.body or b"") == {"error": {"message": message, **error}}


async def test_an_overflow_in_openai_s_own_form_passes_unchanged(up: ScriptedUpstream, connect: Connect) -> None:
    error = {"error": {"message": "too long", "type": "t", "param": "p", "code": "context_length_exceeded", "more": 1}}
    up.script(Fail(400, error))
    response = await (await connect(up.url)).pass_through(BODY)
    assert orjson.loads(response.body or b"") == error


async def test_a_length_error_without_a_context_is_no_overflow(up: ScriptedUpstream, connect: Connect) -> None:
    error = {"error": {"message": "prompt is too long, the maximum is 1000 characters"}}
    up.extra["/v1/images/generations"] = lambda _: Fail(400, error)
    response = await (await connect(up.url)).pass_through({"prompt": "x"}, "/images/generations")
    assert orjson.loads(response.body or b"") == error


@pytest.mark.parametrize(
    "answer",
    [
        {"detail": "Not Found"},
        {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}},
        {"error": {"code": "404", "message": "Resource not found"}},
        {"error": {"message": "Unknown request URL: POST /openai/v1/audio/speech.", "code": "unknown_url"}},
        {"message": "no Route matched with those values"},
        {},
    ],
    ids=["vllm", "llama.cpp", "azure", "groq", "kong", "empty"],
)
async def test_an_upstream_s_unknown_path_is_a_404_naming_settings(
    up: ScriptedUpstream, connect: Connect, answer: dict[str, object]
) -> None:
    up.extra["/v1/audio/speech"] = lambda _: Fail(404, answer)
    with pytest.raises(NotFound, match=r"127\.0\.0\.1:\d+ .*404.*does not serve `/audio/speech`\. Set MODEL_URL"):
        await (await connect(up.url)).pass_through({"input": "Hi"}, "/audio/speech")


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "Voice 'nova' not found", "param": "voice"}},
        {"detail": "Speaker not found: nova"},
        {"error": {"message": "No such File object: file-1", "param": "id"}},
    ],
    ids=["openai", "fastapi", "file"],
)
async def test_a_404_about_something_else_passes(
    up: ScriptedUpstream, connect: Connect, answer: dict[str, object]
) -> None:
    up.extra["/v1/audio/speech"] = lambda _: Fail(404, answer)
    response = await (await connect(up.url)).pass_through({"input": "Hi"}, "/audio/speech")
    assert (response.status, orjson.loads(response.body or b"")) == (404, answer)


async def test_silence_is_limited_on_every_path(up: ScriptedUpstream, connect: Connect) -> None:
    up.raw["/v1/audio/speech"] = Hang()
    with pytest.raises(UpstreamProblem, match="silent for") as silent:
        await (await connect(up.url, limits=CallLimits(0.1, 0.1))).pass_through({"input": "Hi"}, "/audio/speech")
    assert silent.value.http_status == 504


async def test_lm_studio_s_200_for_an_unknown_path_becomes_404(up: ScriptedUpstream, connect: Connect) -> None:
    up.extra["/v1/moderations"] = lambda _: {"error": "Unexpected endpoint or method. (POST /v1/moderations)"}
    with pytest.raises(NotFound, match="does not serve `/moderations`"):
        await (await connect(up.url)).pass_through({"input": "Hi"}, "/moderations")


async def test_an_unknown_model_gets_the_upstream_s_own_404(up: ScriptedUpstream, connect: Connect) -> None:
    error = {"error": {"message": "The model 'tts-9' does not exist", "code": "model_not_found"}}
    up.extra["/v1/audio/speech"] = lambda _: Fail(404, error)
    response = await (await connect(up.url)).pass_through({"model": "tts-9"}, "/audio/speech")
    assert (response.status, orjson.loads(response.body or b"")) == (404, error)
