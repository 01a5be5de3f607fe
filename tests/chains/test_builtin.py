"""The built-in engine with llama.cpp and the demo model: loaded on demand, stopped when left, bounded."""

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from chains import Builtin, CallLimits, EngineConfig, OpenAIBackend, ReplyCall, Upstream
from chains.demo import DEMO_REPLY_TOKENS
from chains.engines import MAX_LOADED
from chains.forwarding import CHAT, COMPLETIONS
from chains.gguf import find_models
from wire.errors import InvalidRequest, NotFound, PromptRefused, UpstreamFailed, UpstreamProblem
from wire.model_options import ModelOptions

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("engine")]

SMALL = EngineConfig(context_size=1024, parallel=2, threads=1, max_reply_tokens=64)
PATIENT = CallLimits(idle_s=40.0)
ASK = [{"role": "user", "content": "Say hello."}]
ENDLESS = {"model": "", "messages": ASK, "max_tokens": 900, "ignore_eos": True}
LONG = {**ENDLESS, "max_tokens": 150}

Open = Callable[..., Awaitable[Builtin]]


@pytest_asyncio.fixture(loop_scope="module")
async def engine() -> AsyncIterator[Open]:
    """Open built-in engines, and close all of them afterwards."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(path: Path | None = None, *, config: EngineConfig = SMALL, **settings: Any) -> Builtin:
            builtin = Builtin(path, config=config, **{"limits": PATIENT, **settings})
            await builtin.open()
            stack.push_async_callback(builtin.close)
            return builtin

        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded() -> AsyncIterator[Builtin]:
    """An engine with its model loaded, for tests of single requests."""
    builtin = Builtin(config=SMALL, limits=PATIENT)
    await builtin.open()
    await builtin.load_upstream("")
    yield builtin
    await builtin.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the demo's file under three names."""
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.gguf").symlink_to(find_models(None)[0].path)
    return tmp_path


async def busy_slots(upstream: Upstream) -> int:
    """Return how many answers llama.cpp reports as being generated."""
    assert upstream.endpoint is not None
    url = upstream.endpoint.base.removesuffix("/v1") + "/slots"
    async with aiohttp.ClientSession() as session, session.get(url, headers=upstream.endpoint.headers()) as answer:
        return sum(slot["is_processing"] for slot in await answer.json())


async def eventually(limit_s: float, look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(limit_s):
        while not await look():
            await asyncio.sleep(0.02)


def states(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["id"]: entry["threadhold"]["state"] for entry in entries}


def children() -> list[int]:
    """Return the engines' processes, the newest last; processes that check schemas are children, too."""
    tasks = Path("/proc/self/task")
    found = [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
    return sorted(int(pid) for pid in found if b"llama.py" in Path(f"/proc/{pid}/cmdline").read_bytes())


async def test_nothing_is_loaded_before_a_request_and_the_demo_is_marked(engine: Open) -> None:
    before = children()
    builtin = await engine()
    (entry,) = await builtin.models()
    assert entry["threadhold"]["demo"] is True
    assert "MODEL_PATH" in entry["threadhold"]["note"]
    assert states([entry]) == {"SmolLM2-135M-Instruct": "on disk"}
    assert await builtin.check() is None
    assert children() == before


async def test_a_first_call_loads_and_answers_without_blocking_the_loop(engine: Open) -> None:
    builtin = await engine()
    asked = asyncio.create_task(builtin.pass_through({"model": "gpt-4o", "messages": ASK, "max_tokens": 5}))
    turns, states_seen = 0, set()
    while not asked.done():
        states_seen.add(str(await builtin.check()).partition(" for ")[0])
        turns += 1
        await asyncio.sleep(0.01)
    response = await asked
    assert response.status == 200
    answer = json.loads(response.body or b"")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "SmolLM2-135M-Instruct"  # the only model, whatever name was requested
    assert answer["choices"][0]["message"]["content"]
    assert 1 <= answer["usage"]["completion_tokens"] <= 5  # the demo can end by itself
    assert "loading `SmolLM2-135M-Instruct`" in states_seen
    assert turns > 10
    assert [builtin.context_limit(name) for name in ("SmolLM2-135M-Instruct", "gpt-4o", "")] == [1024, 1024, 1024]
    props = (await builtin.props("gpt-4o")) or {}
    assert isinstance(props["chat_template_caps"]["supports_tools"], bool)
    sampling = props["default_generation_settings"]["params"]
    assert [round(sampling[name], 2) for name in ("temperature", "top_p", "repeat_penalty")] == [0.2, 0.9, 1.1]
    assert states(await builtin.models()) == {"SmolLM2-135M-Instruct": "loaded"}


async def test_an_answer_without_a_limit_gets_one(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=1024, parallel=1, max_reply_tokens=7))
    for limits, count in (({}, 7), ({"max_tokens": -1}, 7), ({"max_tokens": 9}, 9), ({"max_completion_tokens": 8}, 8)):
        response = await builtin.pass_through({"messages": ASK, "ignore_eos": True, **limits})
        assert json.loads(response.body or b"")["usage"]["completion_tokens"] == count


@pytest.mark.soak
async def test_a_setting_overrides_the_demo_s_own_limit(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=1024, parallel=1))
    response = await builtin.pass_through({"messages": ASK, "ignore_eos": True, "logit_bias": []})
    assert json.loads(response.body or b"")["usage"]["completion_tokens"] == DEMO_REPLY_TOKENS


@pytest.mark.parametrize(
    ("system", "human"),
    [
        pytest.param(
            "Tu expliques à un enfant de douze ans, en phrases courtes, avec un exemple.",
            "Pourquoi le ciel est-il bleu ?",
            id="French",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            "Tu traduis en anglais, sans rien dire d'autre.",
            "La réunion est reportée à jeudi, à dix heures.",
            id="French translator",
            marks=pytest.mark.soak,
        ),
        pytest.param("You are a helpful assistant.", "How do I boil an egg?", id="English", marks=pytest.mark.soak),
    ],
)
async def test_the_demo_s_answers_end_without_repetition(engine: Open, system: str, human: str) -> None:
    builtin = await engine(config=EngineConfig(context_size=1024, parallel=1))
    call = ReplyCall("", [SystemMessage(system), HumanMessage(human)], options=ModelOptions(temperature=0.0))
    chunks = [chunk async for chunk in OpenAIBackend(builtin).stream(call)]
    assert "stop" in [chunk.response_metadata.get("finish_reason") for chunk in chunks]
    lines = re.split(r"[.!?\n]+", "".join(str(chunk.content) for chunk in chunks))
    assert all(lines.count(line) < 3 for line in lines if line.strip())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_reader_that_leaves_stops_the_engine(engine: Open, stream: bool) -> None:
    builtin = await engine()
    upstream = await builtin.load_upstream("")
    asked = asyncio.create_task(builtin.pass_through({**ENDLESS, "stream": stream}))

    async def is_busy() -> bool:
        return await busy_slots(upstream) == 1

    await eventually(5, is_busy)
    if stream:
        (await asked).close()
    else:
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    async def is_idle() -> bool:
        return await busy_slots(upstream) == 0

    started = time.monotonic()
    await eventually(5, is_idle)  # 900 tokens would take longer
    assert time.monotonic() - started < 2


@pytest.mark.soak
async def test_leaving_before_the_first_token_stops_the_engine(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=1024, parallel=1, threads=1))
    upstream = await builtin.load_upstream("")
    long = {"messages": [{"role": "user", "content": "word " * 720}], "max_tokens": 1}
    response = await builtin.pass_through({**long, "stream": True})
    async with contextlib.aclosing(response.blocks()) as blocks:  # type: ignore[type-var]
        assert b'"processed":0' in await anext(blocks)

    async def is_idle() -> bool:
        return await busy_slots(upstream) == 0

    await eventually(30, is_idle)
    answer = json.loads((await builtin.pass_through(long)).body or b"")
    assert "prompt_progress" not in answer
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] <= 600  # of 750: it did not read to the end


@pytest.mark.soak
async def test_only_idle_models_are_unloaded_beyond_the_limit(engine: Open, folder: Path) -> None:
    builtin = await engine(folder)
    assert states(await builtin.models()) == {"one": "on disk", "two": "on disk", "three": "on disk"}
    reading = await builtin.pass_through({**ENDLESS, "model": "one", "stream": True})
    await builtin.load_upstream("two")
    assert states(await builtin.models()) == {"one": "loaded", "two": "loaded", "three": "on disk"}
    await builtin.load_upstream("three")  # `one` was used longer ago, but is in use
    assert states(await builtin.models()) == {"one": "loaded", "two": "on disk", "three": "loaded"}
    assert len(children()) >= MAX_LOADED
    async with contextlib.aclosing(reading.blocks()) as blocks:  # type: ignore[type-var]
        assert b"".join([await anext(blocks) for _ in range(3)]).startswith(b"data: {")
    await builtin.load_upstream("two")
    assert states(await builtin.models()) == {"one": "on disk", "two": "loaded", "three": "loaded"}
    with pytest.raises(PromptRefused, match=r"no model `four`.*`one`"):
        await builtin.resolve("four")
    with pytest.raises(InvalidRequest, match="`four`"):
        await builtin.pass_through({"model": "four", "messages": ASK})


@pytest.mark.soak
async def test_a_waiting_model_is_loaded_however_busy_the_others_are(engine: Open, folder: Path) -> None:
    builtin = await engine(folder)

    async def ask(name: str) -> None:
        await builtin.pass_through({**ENDLESS, "model": name, "max_tokens": 8})

    async def ask_on(name: str, until: asyncio.Event) -> None:
        while not until.is_set():
            await ask(name)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name in ("one", "one", "two", "two"):
            group.create_task(ask_on(name, over))
        await eventually(20, lambda: all_loaded(builtin, "one", "two"))
        await asyncio.wait_for(ask("three"), 20)
        over.set()


@pytest.mark.soak
async def test_a_long_answer_that_delays_a_load_leaves_its_model_usable(engine: Open, folder: Path) -> None:
    drain_s = 2.0
    builtin = await engine(folder, config=replace(SMALL, drain_s=drain_s))
    async with contextlib.AsyncExitStack() as readings:
        for name in ("one", "two"):
            reading = await builtin.pass_through({**ENDLESS, "model": name, "stream": True})
            blocks = await readings.enter_async_context(contextlib.aclosing(reading.blocks()))  # type: ignore[type-var]
            await anext(blocks)
        waiting = asyncio.create_task(builtin.load_upstream("three"))
        await asyncio.sleep(drain_s / 10)
        asked = {"messages": ASK, "model": "one", "max_tokens": 1}
        response = await asyncio.wait_for(builtin.pass_through(asked), drain_s + 5)
        assert response.status == 200
        assert not waiting.done()
    await asyncio.wait_for(waiting, 2 * drain_s + 15)


async def all_loaded(builtin: Builtin, *names: str) -> bool:
    current = states(await builtin.models())
    return all(current[name] == "loaded" for name in names)


async def test_a_cancelled_call_leaves_the_load_to_others(engine: Open) -> None:
    before = children()
    builtin = await engine()
    first = asyncio.create_task(builtin.load_upstream(""))
    await eventually(10, lambda: has_started(before))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await builtin.load_upstream("")
    assert len(children()) == len(before) + 1
    await builtin.close()
    assert children() == before


async def has_started(before: list[int]) -> bool:
    return len(children()) > len(before)


async def test_closing_cancels_a_load_immediately(engine: Open) -> None:
    before = children()
    builtin = await engine()
    asked = asyncio.create_task(builtin.load_upstream(""))
    await eventually(10, lambda: has_started(before))
    started = time.monotonic()
    await builtin.close()
    assert time.monotonic() - started < 1
    assert children() == before
    with pytest.raises(UpstreamFailed, match="shutting down"):
        await asked


async def kill_newest_child(builtin: Builtin) -> None:
    """Kill the engine as soon as it works on a request."""
    upstream = await builtin.load_upstream("")

    async def is_busy() -> bool:
        return await busy_slots(upstream) == 1

    await eventually(15, is_busy)
    before = builtin.engine_ends.total()
    os.kill(children()[-1], 9)

    async def is_noticed() -> bool:
        return builtin.engine_ends.total() > before

    await eventually(10, is_noticed)


@pytest.mark.soak
async def test_an_answer_not_yet_shown_survives_a_crash(engine: Open) -> None:
    builtin = await engine()
    asked = asyncio.create_task(builtin.pass_through(LONG))
    await kill_newest_child(builtin)
    assert (await asked).status == 200
    assert builtin.engine_ends == {("crashed",): 1}


@pytest.mark.soak
async def test_an_answer_not_yet_shown_does_not_survive_two_crashes(engine: Open) -> None:
    builtin = await engine()
    asked = asyncio.create_task(builtin.pass_through(LONG))
    await kill_newest_child(builtin)
    await kill_newest_child(builtin)
    with pytest.raises(UpstreamProblem, match=r"engine ended while it ran .*exit code -9"):
        await asked
    assert (await builtin.pass_through({"messages": ASK, "max_tokens": 3})).status == 200
    assert builtin.engine_ends == {("crashed",): 2}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"GGUF" + bytes(100), "cannot be loaded: gguf_init"), (b"<html>", "is not a GGUF file")],
    ids=["broken", "no model"],
)
async def test_a_model_that_cannot_be_loaded_reports_the_reason(
    engine: Open, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    builtin = await engine(file)
    with pytest.raises(UpstreamFailed, match=reason):
        await builtin.load_upstream("m")
    assert reason in str(await builtin.check())
    with pytest.raises(UpstreamProblem, match=reason):
        await builtin.pass_through({"model": "m", "messages": ASK})


async def test_the_wait_for_a_model_has_a_limit(engine: Open) -> None:
    builtin = await engine(limits=CallLimits(idle_s=0.05))
    with pytest.raises(UpstreamFailed, match=r"not loaded within 0\.05 s"):
        await builtin.load_upstream("")


async def test_an_overlong_prompt_is_refused_with_the_context_length(loaded: Builtin) -> None:
    from wire.errors import ContextOverflow

    long = ReplyCall(model="any", messages=[HumanMessage("word " * 3000)])
    with pytest.raises(ContextOverflow) as caught:
        async for _ in OpenAIBackend(loaded).stream(long):
            pass
    assert caught.value.limit == 1024


async def test_parameters_that_exclude_the_required_schema_are_a_400(loaded: Builtin) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": {"const": "a"}}}
    response = await loaded.pass_through({"messages": ASK, "response_format": form, "ignore_eos": True})
    assert response.status == 400
    assert "`ignore_eos` excludes it" in json.loads(response.body or b"")["error"]["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "param", "prompt"),
    [
        (CHAT, "messages", {"messages": [{"role": "user", "content": "word " * 3000}]}),
        (COMPLETIONS, "prompt", {"prompt": "word " * 3000}),
    ],
    ids=["chat", "completions"],
)
async def test_a_client_s_overflow_is_openai_s_with_both_counts(
    loaded: Builtin, path: str, param: str, prompt: dict[str, Any], stream: bool
) -> None:
    response = await loaded.pass_through({**prompt, "stream": stream}, path)
    error = json.loads(response.body or b"")["error"]
    assert (response.status, response.content_type) == (400, "application/json")
    assert (error["code"], error["type"], error["param"]) == (
        "context_length_exceeded",
        "invalid_request_error",
        param,
    )
    counts = r"maximum context length is 1024 tokens\. However, your \w+ resulted in 30\d\d tokens"
    assert re.search(rf"{counts}.*MODEL_CONTEXT_SIZE is 1024", error["message"])


async def test_no_setting_is_suggested_beyond_the_model_s_context(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=16_384, parallel=1, threads=1))
    response = await builtin.pass_through({"messages": [{"role": "user", "content": "word " * 9000}]})
    message = json.loads(response.body or b"")["error"]["message"]
    assert "maximum context length is 8192 tokens" in message
    assert "MODEL_CONTEXT_SIZE is 16384, but `SmolLM2-135M-Instruct` was trained with 8192 tokens." in message


@pytest.mark.soak
async def test_an_answer_that_fills_the_context_ends_there(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=256, parallel=1, threads=1))
    full = {"prompt": "word " * 180, "max_tokens": 200, "ignore_eos": True}
    answer = json.loads((await builtin.pass_through(full, COMPLETIONS)).body or b"")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] <= 256


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_text_completions_are_answered(loaded: Builtin, stream: bool) -> None:
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "One, two,", "max_tokens": 4, "stream": stream}
    response = await loaded.pass_through(asked, COMPLETIONS)
    if stream:
        answer = b"".join([block async for block in response.blocks()])
        assert b'"text"' in answer
        assert answer.rstrip().endswith(b"data: [DONE]")
    else:
        whole = json.loads(response.body or b"")
        assert (whole["object"], whole["choices"][0]["finish_reason"]) == ("text_completion", "length")
        assert whole["choices"][0]["text"]
        assert whole["usage"]["completion_tokens"] == 4


async def test_a_path_the_engine_lacks_is_a_404_naming_settings(loaded: Builtin) -> None:
    with pytest.raises(NotFound, match=r"built-in engine does not serve `/audio/speech`\. Set MODEL_URL"):
        await loaded.pass_through({"model": "tts-1", "input": "Hi"}, "/audio/speech")


async def test_context_is_known_and_tokens_are_counted_by_llama_cpp(engine: Open) -> None:
    builtin = await engine()
    talk = [HumanMessage("Say hello."), AIMessage("Hello!"), HumanMessage("And now in French, s'il vous plaît.")]
    assert builtin.context_limit("gpt-4") is None
    assert await builtin.ask_limit("gpt-4") == builtin.context_limit("") == builtin.context_limit("gpt-4") == 1024
    count = await builtin.count_tokens("gpt-4", talk, ())
    chunks = [
        chunk async for chunk in OpenAIBackend(builtin).stream(ReplyCall(model="gpt-4", messages=talk, max_tokens=1))
    ]
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert count == usage["input_tokens"]


@pytest.mark.soak
async def test_parallel_answers_have_separate_contexts(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=256, parallel=2, threads=1))
    full = [{"role": "user", "content": "word " * 140}]  # two of these are more than one context
    answers = await asyncio.gather(*(builtin.pass_through({"messages": full, "max_tokens": 3}) for _ in range(3)))
    assert [answer.status for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize(("path", "name"), [(CHAT, "messages"), (COMPLETIONS, "prompt")])
async def test_a_request_without_its_prompt_is_refused_as_openai_does(loaded: Builtin, path: str, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await loaded.pass_through({"model": "any"}, path)
    assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_engine_has_openai_s_fields(loaded: Builtin, stream: bool) -> None:
    response = await loaded.pass_through({"model": "any", "messages": ASK, "repeat_last_n": -1, "stream": stream})
    error = json.loads(response.body or b"")["error"]
    assert response.status == 400
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["code"] is None


async def test_a_function_call_has_the_token_limit_of_an_answer(engine: Open) -> None:
    builtin = await engine(config=EngineConfig(context_size=1024, parallel=1, max_reply_tokens=7))
    note = {"type": "object", "properties": {"note": {"type": "string", "minLength": 90}}, "required": ["note"]}
    tool = {"type": "function", "function": {"name": "take_note", "parameters": note}}
    named = {"type": "function", "function": {"name": "take_note"}}  # so that no request chooses a function
    call = ReplyCall(model="", messages=[HumanMessage("Take a note.")], tools=[tool], tool_choice=named)
    chunks = [chunk async for chunk in OpenAIBackend(builtin, tool_calls="schema").stream(call)]
    assert chunks[-1].response_metadata["finish_reason"] == "length"
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata["output_tokens"] == 14  # two attempts
