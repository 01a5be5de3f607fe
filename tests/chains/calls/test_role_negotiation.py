"""Orders of roles that servers refuse, in any wording: what is sent instead, and which later prompts change."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains import OpenAIBackend, ReplyCall, build_chat_chain
from tests.chains.conftest import FAST, Connect
from tests.upstream import Fail, Reply, ScriptedUpstream, Step
from wire.errors import PromptRefused, RateLimited, UpstreamFailed

S, A, B = SystemMessage("S"), HumanMessage("a"), HumanMessage("b")
SAID = AIMessage("x")
TWO: list[BaseMessage] = [S, A, B]
NORMAL: list[BaseMessage] = [S, A, SAID, B]
CALLED: list[BaseMessage] = [
    S, A, AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c", "type": "tool_call"}]),
    ToolMessage("68", tool_call_id="c"),
]  # fmt: skip

Roles = Sequence[str]


def alternates(roles: Roles) -> bool:
    """Refuse what the templates of Mistral, Gemma and Llama 2 refuse, apart from a system message."""
    turns = [role for role in roles if role != "system"]
    return turns == [("user", "assistant")[index % 2] for index in range(len(turns))]


def ends_with_user(roles: Roles) -> bool:
    return alternates(roles) and roles[-1] == "user"


def no_system(roles: Roles) -> bool:
    return "system" not in roles


def strict(roles: Roles) -> bool:
    return no_system(roles) and ends_with_user(roles)


def no_tool(roles: Roles) -> bool:
    return "tool" not in roles and alternates(roles)


def picky(takes: Callable[[Roles], bool], status: int, message: str) -> Callable[[dict[str, Any]], Step]:
    refusal = Fail(status, {"error": {"message": message, "type": "invalid_message"}})
    return lambda body: Reply("Fine.") if takes([turn["role"] for turn in body["messages"]]) else refusal


async def ask_text(replies: OpenAIBackend, messages: Sequence[BaseMessage]) -> str:
    stream = replies.stream(ReplyCall("test-model", list(messages)))
    return "".join([str(chunk.content) async for chunk in stream])


def turns(up: ScriptedUpstream, number: int = -1) -> list[tuple[str, Any]]:
    return [(turn["role"], turn["content"]) for turn in up.requests[number].body["messages"]]


ALTERNATE: dict[str, tuple[int, str]] = {
    "template": (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "Perplexity": (400, "After the (optional) system message(s), user and assistant roles should be alternating."),
    "Perplexity's other": (400, "user or tool message(s) should alternate with assistant message(s)."),
    "DeepSeek": (400, "does not support successive user messages. You should interleave the user/assistant messages"),
    "Anthropic": (400, 'messages: roles must alternate, but found multiple "user" roles in a row'),
    "Bedrock": (400, "A conversation must alternate between user and assistant roles."),
    "Cohere": (422, "invalid request: consecutive messages of the same role"),
    "Gemini": (400, "Please ensure that multiturn requests alternate between user and model."),
    "a template's 500": (500, "Jinja Exception: after the optional system message, roles must alternate"),
    "any words": (400, "Bad input."),
    "Chinese": (400, "消息角色必须 user 和 assistant 交替出现"),
    "Chinese, names within": (400, "不能有连续的user消息"),
    "Spanish": (400, "Los roles 'user' y 'assistant' deben alternarse"),
}
SYSTEM: dict[str, tuple[int, str]] = {
    "Gemma": (400, "System role not supported"),
    "Mistral 7B": (500, "Only user and assistant roles are supported!"),
    "o1-mini": (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    "a path": (422, "messages.0.role: Input should be 'user' or 'assistant'"),
    "Gemma at Google": (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    "German": (400, "Nachrichten der Rolle system sind nicht erlaubt"),
    "Chinese": (400, "不支持system消息"),
    "Japanese": (400, "システムメッセージは使用できません"),
}
WORDINGS: dict[str, tuple[Callable[[Roles], bool], int, str]] = {
    **{name: (alternates, *case) for name, case in ALTERNATE.items()},
    **{name: (strict, *case) for name, case in SYSTEM.items()},
}


@pytest.mark.parametrize(("takes", "status", "message"), WORDINGS.values(), ids=WORDINGS)
async def test_refused_user_messages_in_a_row_are_joined(
    up: ScriptedUpstream, connect: Connect, takes: Callable[[Roles], bool], status: int, message: str
) -> None:
    up.default = picky(takes, status, message)
    replies = OpenAIBackend(await connect(up.url))
    assert await ask_text(replies, TWO) == "Fine."
    joined = [("user", "S\n\na\n\nb")] if takes is strict else [("system", "S"), ("user", "a\n\nb")]
    assert turns(up) == joined
    before = len(up.requests)
    assert await ask_text(replies, TWO) == "Fine."
    assert len(up.requests) == before + 1, "the refusal was not remembered"


@pytest.mark.parametrize(
    ("takes", "message", "messages", "sent"),
    [
        (no_system, "System role not supported", [S, A], [("user", "S\n\na")]),
        (ends_with_user, "Expected last role User or Tool for serving but got assistant",
         [S, A, SAID], [("system", "S"), ("user", "a"), ("assistant", "x"), ("user", "…")]),
        (ends_with_user, "the first message must be from the user",
         [SAID, A], [("user", "…"), ("assistant", "x"), ("user", "a")]),
        (strict, "roles must alternate", [S, A, SAID], [("user", "S\n\na"), ("assistant", "x"), ("user", "…")]),
        (strict, "system is unknown", [S], [("user", "S")]),
        (strict, "roles must alternate", [], [("user", "…")]),
        (no_tool, "Unexpected role 'tool'", CALLED,
         [("system", "S"), ("user", "a\n\nResult of f({}):\n68")]),
    ],
    ids=["system", "last", "first", "system and last", "system alone", "nothing", "tool"],
)  # fmt: skip
async def test_a_refused_order_is_replaced_by_an_accepted_one(
    up: ScriptedUpstream,
    connect: Connect,
    takes: Callable[[Roles], bool],
    message: str,
    messages: list[BaseMessage],
    sent: list[tuple[str, Any]],
) -> None:
    up.default = picky(lambda roles: bool(roles) and takes(roles), 400, message)
    assert await ask_text(OpenAIBackend(await connect(up.url), tool_calls="native"), messages) == "Fine."
    assert turns(up) == sent
    assert len(up.requests) <= 6


@pytest.mark.parametrize("first", [[], [NORMAL], [[S, A]], [[A]]], ids=["nothing", "normal", "short", "bare"])
async def test_one_prompt_s_changes_do_not_affect_another(
    up: ScriptedUpstream, connect: Connect, first: list[list[BaseMessage]]
) -> None:
    up.default = picky(alternates, 400, "roles should be alternating, system optional")
    replies = OpenAIBackend(await connect(up.url))
    for messages in [*first, TWO, NORMAL, [S, A], [A]]:
        assert await ask_text(replies, messages) == "Fine."
    assert turns(up, -3) == [("system", "S"), ("user", "a"), ("assistant", "x"), ("user", "b")]
    assert turns(up, -2) == [("system", "S"), ("user", "a")]
    assert turns(up, -1) == [("user", "a")]


async def test_an_accepted_kind_stays_after_one_odd_refusal(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url))
    odd = Fail(400, {"error": {"message": "The system could not read this prompt"}})
    up.script(Reply("One."), odd, Reply("Two."), Reply("Three."))
    for text in ("One.", "Two.", "Three."):
        assert await ask_text(replies, NORMAL) == text
    assert turns(up) == [("system", "S"), ("user", "a"), ("assistant", "x"), ("user", "b")]


@pytest.mark.parametrize("tool_calls", ["native", "schema"])
@pytest.mark.parametrize(
    "refusal",
    [
        {"message": "The user message was flagged by our moderation"},
        {"message": "The prompt was refused", "code": "content_filter"},
        {"message": "API key not valid. Please pass a valid API key."},
        {"message": "Your account balance is insufficient, says the billing system"},
        {"message": "Model Not Exist"},
        {"message": "The system does not know the model"},
        {"message": "系统检测到输入内容可能包含不安全或敏感内容"},
    ],
    ids=str,
)
async def test_no_other_form_is_tried_unless_the_form_is_refused(
    up: ScriptedUpstream, connect: Connect, refusal: dict[str, str], tool_calls: Any
) -> None:
    up.default = lambda _: Fail(400, {"error": refusal})
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    stream = OpenAIBackend(await connect(up.url), tool_calls=tool_calls).stream(
        ReplyCall("test-model", TWO, tools=[tool])
    )
    with pytest.raises(PromptRefused):
        await anext(stream)
    assert len(up.requests) == 1


async def test_an_account_message_that_mentions_roles_is_about_roles(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = picky(alternates, 400, "roles must alternate: user 'What is my balance?', user 'b'")
    assert await ask_text(OpenAIBackend(await connect(up.url)), TWO) == "Fine."


async def test_a_prompt_without_instructions_is_not_changed_by_refused_ones(
    up: ScriptedUpstream, connect: Connect
) -> None:
    up.default = picky(no_system, 400, "System role not supported")
    replies = OpenAIBackend(await connect(up.url))
    for messages in ([S, A], [A, B], [S, A, B]):
        assert await ask_text(replies, messages) == "Fine."
    assert [turns(up, -2), turns(up, -1)] == [[("user", "a"), ("user", "b")], [("user", "S\n\na\n\nb")]]
    assert len(up.requests) == 4


async def test_the_first_refusal_is_reported_when_nothing_helps(up: ScriptedUpstream, connect: Connect) -> None:
    numbers = iter(range(100))
    up.default = lambda _: Fail(400, {"error": {"message": f"roles are wrong, says refusal {next(numbers)}"}})
    with pytest.raises(PromptRefused, match="says refusal 0"):
        await ask_text(OpenAIBackend(await connect(up.url)), [*TWO, SAID])
    assert 2 < len(up.requests) <= 6


async def test_a_rate_limit_between_attempts_is_reported_as_such(up: ScriptedUpstream, connect: Connect) -> None:
    refused = Fail(400, {"error": {"message": "roles must alternate"}})
    up.script(refused, *[Fail(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "0"})] * 3)
    with pytest.raises(RateLimited):
        await ask_text(OpenAIBackend(await connect(up.url)), TWO)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "No"),
        (401, "the assistant role needs a key"),
        (403, "system"),
        (404, "no such system"),
        (400, "bad user"),
    ],
)
async def test_a_usual_prompt_refused_for_another_reason_is_sent_once(
    up: ScriptedUpstream, connect: Connect, status: int, message: str
) -> None:
    up.default = lambda _: Fail(status, {"error": {"message": message}})
    with pytest.raises(Exception, match=message):
        await ask_text(OpenAIBackend(await connect(up.url)), NORMAL)
    assert len(up.requests) == 1


@pytest.mark.parametrize("messages", [NORMAL, TWO], ids=["normal", "two in a row"])
async def test_an_outage_is_no_refusal_of_turns(
    up: ScriptedUpstream, connect: Connect, messages: list[BaseMessage]
) -> None:
    up.default = lambda _: Fail(500, {"error": {"message": "the system is overloaded, says the assistant"}})
    with pytest.raises(UpstreamFailed):
        await ask_text(OpenAIBackend(await connect(up.url)), messages)
    assert len(up.requests) == 1 + FAST.retry.retries
    assert all(seen.body == up.requests[0].body for seen in up.requests)


async def test_the_chat_chain_converts_its_prompt_and_remembers(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = picky(no_system, 400, "System role not supported")
    chain = build_chat_chain(await connect(up.url))
    for _ in range(2):
        assert await chain.ainvoke({"system": "S", "human": "a"}) == "Fine."
    assert turns(up) == [("user", "S\n\na")]
    assert len(up.requests) == 3


async def test_joining_turns_keeps_text_before_its_call(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = picky(lambda roles: "assistant,assistant" not in ",".join(roles), 400, "two assistant turns in a row")
    messages = [S, A, SAID, *CALLED[2:]]
    assert await ask_text(OpenAIBackend(await connect(up.url), tool_calls="native"), messages) == "Fine."
    assert [role for role, _ in turns(up)] == ["system", "user", "assistant", "tool"]
    assert turns(up)[2] == ("assistant", "x")
