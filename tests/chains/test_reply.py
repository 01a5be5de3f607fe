"""One model call with a real HTTP server: the request, the answer, and the errors."""

from typing import Any, ClassVar

import orjson
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda

from chains import OpenAIBackend, ReplyCall, Upstream
from chains.chunks import TextChunk
from chains.reply import chat_model
from tests.chains.conftest import Connect
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream
from wire.errors import ContextOverflow, PromptRefused, RateLimited, RunError, UpstreamFailed
from wire.model_options import ModelOptions

TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "strict": True, "parameters": {"type": "object"}},
}


def call(text: str = "hello there", **settings: Any) -> ReplyCall:
    return ReplyCall(**{"model": "test-model", "messages": [SystemMessage("be brief"), HumanMessage(text)], **settings})


async def chunks(upstream: Upstream, asked: ReplyCall | None = None) -> list[AIMessageChunk]:
    return [chunk async for chunk in OpenAIBackend(upstream).stream(asked or call())]


async def whole(upstream: Upstream, asked: ReplyCall | None = None) -> AIMessageChunk:
    first, *rest = await chunks(upstream, asked)
    for chunk in rest:
        first += chunk
    return first


async def error_of(upstream: Upstream, asked: ReplyCall | None = None) -> RunError:
    with pytest.raises(RunError) as caught:
        await chunks(upstream, asked)
    return caught.value


def event(**chunk: Any) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def text_event(text: str | None = None, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}])


DONE = b"data: [DONE]\n\n"

# --- plain text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["one", ["one ", "two"]], ids=["text", "texts"])
async def test_a_chunk_of_text_equals_langchain_s_and_shares_nothing(
    content: str | list[str], connect: Connect, up: ScriptedUpstream
) -> None:
    chat: Any = chat_model(await connect(up.url))
    plain = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}]}
    made, other = (chat._convert_chunk_to_generation_chunk(TextChunk(plain), AIMessageChunk, {}) for _ in range(2))
    expected = chat._convert_chunk_to_generation_chunk(plain, AIMessageChunk, {})
    assert made == expected
    assert made.message.model_dump() == expected.message.model_dump()
    assert made.message + made.message == expected.message + expected.message
    for name, value in made.message.__dict__.items():
        assert value is None or isinstance(value, str) or value is content or value is not getattr(other.message, name)


# --- batched texts ----------------------------------------------------------------------------------------------------


async def test_texts_of_one_read_are_one_chunk_if_requested(up: ScriptedUpstream, connect: Connect) -> None:
    reasoning = event(choices=[{"index": 0, "delta": {"content": "d", "reasoning_content": "hm"}}])
    parts = [
        text_event("a"),
        text_event("b"),
        text_event("c"),
        reasoning,
        text_event("e"),
        text_event("f"),
        b"data: {\n\n",
    ]
    up.script(Raw([b"".join(parts)]))
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)
    got: list[Any] = []
    with pytest.raises(UpstreamFailed, match="not JSON"):
        async for chunk in OpenAIBackend(await connect(up.url)).stream(call):
            got.append(chunk.content)  # noqa: PERF401 - chunks before the failure must be kept
    assert got == ["a", ["b", "c"], "d", ["e", "f"]]  # the first could start a block of reasoning


async def test_an_answer_in_one_read_has_text_reason_and_usage(up: ScriptedUpstream, connect: Connect) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    parts = [
        event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]),
        text_event("a"),
        text_event("b"),
        event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}]),
        event(choices=[], usage=usage),
        DONE,
    ]
    up.script(Raw([b"".join(parts)]))
    call = ReplyCall(model="m", messages=[HumanMessage("Hello")], together=True)
    got = [chunk async for chunk in OpenAIBackend(await connect(up.url)).stream(call)]
    assert [chunk.content for chunk in got] == ["a", ["b"], ""]
    assert got[-1].response_metadata["finish_reason"] == "length"
    assert got[-1].usage_metadata is not None
    assert (got[-1].usage_metadata["input_tokens"], got[-1].usage_metadata["output_tokens"]) == (3, 2)


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_callbacks_are_called_and_the_chunks_are_unchanged(up: ScriptedUpstream, connect: Connect) -> None:
    class Recorder(AsyncCallbackHandler):
        events: ClassVar[list[str]] = []

        async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            self.events.append("start")

        async def on_llm_end(self, *_: Any, **__: Any) -> None:
            self.events.append("end")

    upstream = await connect(up.url)
    alone = await whole(upstream)

    async def follow(_: None) -> AIMessageChunk:
        return await whole(upstream)

    message = await RunnableLambda(follow).ainvoke(None, {"callbacks": [Recorder()]})
    assert Recorder.events == ["start", "end"]
    assert (message.content, message.usage_metadata) == (alone.content, alone.usage_metadata)
    assert message.response_metadata["finish_reason"] == alone.response_metadata["finish_reason"]


async def test_text_is_streamed_by_token_with_finish_reason_and_usage(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    got = await chunks(upstream)
    assert [chunk.content for chunk in got if chunk.content] == ["Echo:", " hello", " there"]
    message = await whole(upstream)
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (6, 3)


async def test_fragments_of_parallel_tool_calls_are_joined(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply(tool_calls=[("f", {"city": "München is far"}, "call_1"), ("g", "{}", "call_2")]))
    message = await whole(await connect(up.url), call(tools=[TOOL]))
    assert [(c["name"], c["args"], c["id"]) for c in message.tool_calls] == [
        ("f", {"city": "München is far"}, "call_1"),
        ("g", {}, "call_2"),
    ]
    assert message.response_metadata["finish_reason"] == "tool_calls"


def fragment(index: Any, id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    fields = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in fields.items() if value is not None}


@pytest.mark.parametrize(
    "deltas",
    [
        [[fragment(0, "a", "f", '{"x"')], [fragment(0, None, None, ":1}")], [fragment(1, "b", "g", "{}")]],
        [[fragment(0, "a", "f", '{"x"')], [fragment(0, "a", "f", ":1}")], [fragment(1, "b", "g", "{}")]],
        [[fragment(0, "a", "f", '{"x":1}'), fragment(0, "b", "g", "{}")]],
        [[fragment(0, "a", "f", '{"x":1}')], [fragment(0, "b", "g", "{}")]],
        [[fragment(None, "a", "f", '{"x":1}'), fragment(None, "b", "g", "{}")]],
        [[fragment(None, "a", "f", '{"x":1}')], [fragment(None, "b", "g", "{}")]],
        [[fragment(0, "a", "f", {"x": 1}), fragment(1, "b", "g", {})]],
        [[fragment(3, "a", "f", '{"x":1}'), fragment(7, "b", "g", "{}")]],
    ],
    ids=["openai", "id and name repeated", "all indexes 0", "indexes 0 in turn", "no index", "no index in turn",
         "arguments as an object", "odd indexes"],
)  # fmt: skip
async def test_tool_calls_are_distinguished_by_any_numbering(
    up: ScriptedUpstream, connect: Connect, deltas: list[Any]
) -> None:
    parts = [event(choices=[{"index": 0, "delta": {"tool_calls": calls}}]) for calls in deltas]
    up.script(Raw([*parts, text_event(finish="tool_calls"), DONE]))
    message = await whole(await connect(up.url))
    assert [(c["name"], c["args"], c["id"]) for c in message.tool_calls] == [("f", {"x": 1}, "a"), ("g", {}, "b")]
    assert [c["index"] for c in message.tool_call_chunks] == [0, 1]


async def test_a_completion_instead_of_a_stream_is_one_answer(up: ScriptedUpstream, connect: Connect) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "all at once"}}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = orjson.dumps({"object": "chat.completion", "choices": [choice], "usage": usage})
    up.script(Raw([body[:20], body[20:]], content_type="application/json; charset=utf-8"))
    message = await whole(await connect(up.url))
    assert message.content == "all at once"
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 7


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
async def test_real_event_streams_are_parsed(up: ScriptedUpstream, connect: Connect, line_end: bytes) -> None:
    stream = b"\xef\xbb\xbf: hi\n\nevent: x\n" + text_event("né").replace(b"data: ", b"data:") + b": ping\n\n"
    stream += text_event("😀") + text_event(finish="stop") + DONE
    stream = stream.replace(b"\n", line_end)
    up.script(Raw([stream[i : i + 7] for i in range(0, len(stream), 7)]))
    assert (await whole(await connect(up.url))).content == "né😀"


@pytest.mark.parametrize(
    "end",
    [[], [DONE[:-1]], [event(choices=[], usage={"prompt_tokens": 1})], [b": bye\n\n"]],
    ids=["nothing", "no blank line", "usage only", "comment"],
)
async def test_the_done_mark_is_optional_after_a_finish_reason(
    up: ScriptedUpstream, connect: Connect, end: list[bytes]
) -> None:
    upstream = await connect(up.url)
    for then in ("end", "drop"):
        up.script(Raw([text_event("well"), text_event(finish="stop"), *end], then=then))  # type: ignore[arg-type]
        assert (await whole(upstream)).content == "well"


async def test_odd_but_harmless_chunks_are_accepted(up: ScriptedUpstream, connect: Connect) -> None:
    odd = [
        event(choices=[], prompt_filter_results=[]),
        event(type="ping"),
        event(choices=None, usage=None),
        event(choices=[{"index": 0, "delta": None}]),
        event(choices=[{"index": 0, "delta": {"role": "user", "content": None, "reasoning_content": "hm"}}]),
        event(choices=[{"index": 1, "delta": {"content": "another choice"}}]),
        event(choices=[{"delta": {"content": [{"type": "thinking"}, {"type": "text", "text": "yes"}]}}]),
        event(choices=[{"index": 0, "delta": {"refusal": " no"}}], usage={"prompt_tokens": "many"}),
        event(choices=[{"index": 0, "delta": {"function_call": {"name": "old"}}, "logprobs": {"content": 5}}]),
    ]
    up.script(Raw([*odd, text_event(finish="stop"), DONE]))
    assert (await whole(await connect(up.url))).content == "yes no"


@pytest.mark.parametrize("count", [-1, 2**64 - 1, 2**41, "5", True])
async def test_an_impossible_token_count_is_none(up: ScriptedUpstream, connect: Connect, count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 5, "total_tokens": 7}
    up.script(Raw([text_event("well"), text_event(finish="stop"), event(choices=[], usage=usage), DONE]))
    counted = (await whole(await connect(up.url))).usage_metadata
    assert counted is not None
    assert (counted["input_tokens"], counted["output_tokens"]) == (0, 5)


# --- requests ---------------------------------------------------------------------------------------------------------

SENT = {
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}},
    },
    "max_tokens": 77,
}
OPTIONS = ModelOptions(temperature=0.0, top_p=0.5, reasoning_effort="low")
BASE = {
    "model": "test-model",
    "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize("model", ["test-model", "gpt-5", "o1-mini", "gpt-6-x", "gpt-5-pro", "claude-x"])
async def test_the_body_is_the_same_for_every_model_name(up: ScriptedUpstream, connect: Connect, model: str) -> None:
    upstream = await connect(up.url)
    await chunks(upstream, call(model=model, options=OPTIONS, **SENT))
    assert up.requests[-1].body == {**BASE, **SENT, **OPTIONS.named(), "model": model}


async def test_fields_that_are_none_are_not_sent(up: ScriptedUpstream, connect: Connect) -> None:
    await chunks(await connect(up.url), call(**dict.fromkeys(SENT, None) | {"tools": []}))
    assert up.requests[-1].body == BASE
    await chunks(await connect(up.url), call(max_tokens=-1, response_format="auto", tool_choice="none"))
    assert up.requests[-1].body == BASE


async def test_openai_gets_max_completion_tokens_by_its_host(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{up.port}")  # the upstream acts as the proxy
    upstream = await connect("http://api.openai.com/v1")
    await chunks(upstream, call(max_tokens=5))
    assert up.requests[-1].body == {**BASE, "max_completion_tokens": 5}
    assert up.requests[-1].headers["host"] == "api.openai.com"


async def test_only_our_own_key_and_user_agent_are_sent(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-environment")
    await chunks(await connect(up.url, api_key="lsv2_looks_like_langsmith"))
    headers = up.requests[-1].headers
    assert headers["authorization"] == "Bearer lsv2_looks_like_langsmith"
    assert headers["user-agent"].startswith("threadhold/")
    await chunks(await connect(up.url))
    assert "environment" not in str(up.requests[-1].headers)
    assert "authorization" not in up.requests[-1].headers


async def test_invalid_unicode_is_refused_before_it_is_sent(up: ScriptedUpstream, connect: Connect) -> None:
    assert isinstance(await error_of(await connect(up.url), call("\ud800")), PromptRefused)
    assert not up.requests


# --- errors -----------------------------------------------------------------------------------------------------------

USELESS = {
    "not json": ([b"data: {nope\n\n"], "not JSON"),
    "not an object": ([b"data: 3\n\n"], "no object"),
    "choices of the wrong kind": ([event(choices=[3])], "wrong shape"),
    "delta of the wrong kind": ([event(choices=[{"delta": [1]}])], "wrong shape"),
    "content of the wrong kind": ([event(choices=[{"delta": {"content": 5}}])], "wrong shape"),
    "tool calls of the wrong kind": ([event(choices=[{"delta": {"tool_calls": ["x"]}}])], "wrong shape"),
    "tool function of the wrong kind": (
        [event(choices=[{"delta": {"tool_calls": [{"function": "x"}]}}])],
        "wrong shape",
    ),
    "no finish reason, no end": ([text_event("and then")], "ended early"),
    "nothing at all": ([], "ended early"),
    "only comments": ([b": a\n\n: b\n\n"], "ended early"),
    "half an event": ([text_event("a"), b'data: {"choices": [{"delta": {"con'], "not JSON"),
    "an error object": ([text_event("a"), event(error={"message": "CUDA out of memory"})], "CUDA out of memory"),
    "an error text": ([text_event("a"), event(error="model crashed")], "model crashed"),
    "an error event": ([b'event: error\ndata: {"message": "slot gone"}\n\n'], "slot gone"),
    "an error under another name": ([event(code=5, msg="slot lost")], "slot lost"),
    "an error in a choice": ([event(choices=[{"delta": {}, "error": {"message": "peer gone"}}])], "peer gone"),
    "an error beside choices": ([event(choices=[{"delta": {}}], error={"code": 502, "message": "up up"})], "up up"),
}


@pytest.mark.parametrize(("parts", "expected"), USELESS.values(), ids=USELESS)
async def test_unusable_stream_data_fails_the_run(
    up: ScriptedUpstream, connect: Connect, parts: list[bytes], expected: str
) -> None:
    up.script(*[Raw(parts)] * 3)
    error = await error_of(await connect(up.url))
    assert type(error) is UpstreamFailed
    assert expected in error.message
    # An answer that ends before its first token is retried, like any lost connection.
    assert len(up.requests) == (3 if expected == "ended early" and not any(b"choices" in part for part in parts) else 1)


async def test_done_also_ends_an_answer_that_has_text(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Raw([text_event("whole"), DONE]))
    assert (await whole(await connect(up.url))).content == "whole"


@pytest.mark.parametrize("step", [Reply("lost", cut_after=0), Raw([]), Raw([DONE])], ids=["cut", "empty", "done"])
async def test_an_answer_without_a_token_that_breaks_off_is_retried(
    up: ScriptedUpstream, connect: Connect, step: Any
) -> None:
    up.script(step, step, Reply("again"))
    assert (await whole(await connect(up.url))).content == "again"
    assert len(up.requests) == 3


async def test_a_connection_cut_in_mid_answer_is_reported_without_a_retry(
    up: ScriptedUpstream, connect: Connect
) -> None:
    up.script(Reply("one two three", cut_after=2))
    error = await error_of(await connect(up.url))
    assert type(error) is UpstreamFailed
    assert "closed the connection" in error.message
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "code": 429}, RateLimited),
        ({"message": "slow down", "code": "rate_limit_exceeded"}, RateLimited),
        ({"message": "bad image", "code": 400}, PromptRefused),
        ({"message": "x", "code": "context_length_exceeded"}, ContextOverflow),
        ("(n_keep: 13055>= n_ctx: 4096)", ContextOverflow),
    ],
)
async def test_an_error_in_the_stream_becomes_its_run_error(
    up: ScriptedUpstream, connect: Connect, error: Any, kind: type[RunError]
) -> None:
    up.script(Raw([event(error=error)]))
    assert type(await error_of(await connect(up.url))) is kind


async def test_html_and_other_json_with_status_200_fail_with_advice(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    up.script(
        Raw([b"<html>Sign in</html>"], content_type="text/html"),
        Raw([b'{"ok": true}'], content_type="application/json"),
    )
    up.script(Raw([b"OK"], content_type="application/json"), *[Raw([b"OK"], content_type="text/plain")] * 3)
    for expected in ("MODEL_URL", "no completion", "not JSON", "ended early"):
        error = await error_of(upstream)
        assert type(error) is UpstreamFailed
        assert expected in error.message


async def test_a_redirect_is_not_followed(up: ScriptedUpstream, connect: Connect) -> None:
    with ScriptedUpstream() as elsewhere:
        up.script(Fail(307, "", {"Location": f"{elsewhere.url}/chat/completions"}))
        error = await error_of(await connect(up.url, api_key="sk-secret"))
        assert type(error) is UpstreamFailed
        assert "redirects" in error.message
        assert not elsewhere.requests


async def test_an_unknown_model_is_refused_with_the_available_models(up: ScriptedUpstream, connect: Connect) -> None:
    up.models = [{"id": "qwen"}, {"id": "llama"}]
    up.script(Fail(404, {"error": {"message": "model 'x' not found"}}))
    error = await error_of(await connect(up.url), call(model="x"))
    assert type(error) is PromptRefused
    for named in ("`x`", "`qwen`", "`llama`", "MODEL_ALIASES"):
        assert named in error.message


async def test_the_key_is_in_no_message(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url, api_key="sk-very-secret")
    for status in (400, 401, 404, 307):
        body = {"error": {"message": "Incorrect API key provided: sk-very-secret"}}
        up.script(Fail(status, body, {"Location": "http://h/?key=sk-very-secret"}))
        assert "sk-very-secret" not in (await error_of(upstream)).message


@pytest.mark.parametrize("written", ["sk-very/secret", "sk-very\\/secret", "sk-very%2Fsecret"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b'data: {"error": {"message": "Wrong key: %s"}}\n\n', "text/event-stream"),
        (b"data: Wrong key: %s\n\n", "text/event-stream"),
        (b'{"error": {"message": "Wrong key: %s"}}', "application/json"),
        (b'{"wrong": "%s"}', "application/json"),
    ],
    ids=["event", "event that is not JSON", "body", "another body"],
)
async def test_the_key_is_in_no_error_with_status_200(
    up: ScriptedUpstream, connect: Connect, answer: bytes, kind: str, written: str
) -> None:
    upstream = await connect(up.url, api_key="sk-very/secret")
    up.default = lambda _: Raw([answer % written.encode()], content_type=kind)
    error = await error_of(upstream)
    assert "***" in error.message
    for shown in (error.message, error.quote, str(error)):
        assert "secret" not in shown


async def test_secrets_of_an_address_are_in_no_message(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(f"{up.url.replace('://', '://ann:pass-word@')}?key=query-key&api-version=1")
    up.script(Fail(400, {"error": {"message": "ann:pass-word may not use query-key with version 1"}}))
    assert "ann:*** may not use *** with version 1" in (await error_of(upstream)).message


async def test_an_overflow_sets_the_context_limit(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    up.context = 512
    error = await error_of(upstream, call("x" * 4000))
    assert isinstance(error, ContextOverflow)
    assert error.limit == 512
    assert error.used is not None
    assert error.used > 1000
    assert upstream.context_limit("test-model") == 512
    up.script(Raw([event(error="(n_keep: 13055>= n_ctx: 4096)")]))
    await error_of(upstream)
    assert upstream.context_limit("test-model") == 4096


async def test_without_a_url_the_message_names_the_setting(connect: Connect) -> None:
    error = await error_of(await connect(None))
    assert type(error) is UpstreamFailed
    assert "Set MODEL_URL" in error.message
