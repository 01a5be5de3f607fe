"""The model's prompt, and what is dropped first if it is too long."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains import Prompt, build_prompt
from chains.context import PastCall, PastRound
from chains.extra_fields import extra_fields
from tests.cpu_time import limit_cpu_time
from wire.errors import ContextOverflow, PromptRefused

AUTO = {"type": "auto", "last_messages": None}


def posted(role: str, *parts: Any, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "text", "text": {"value": p, "annotations": []}} if isinstance(p, str) else p for p in parts]
    return {"object": "thread.message", "role": role, "status": status, "content": content, "attachments": []}


def build(
    *history: dict[str, Any],
    instructions: str = "be brief",
    exchange: Any = (),
    truncation: Any = AUTO,
    past: Any = MappingProxyType({}),
) -> Prompt:
    return build_prompt(instructions=instructions, history=history, exchange=exchange, truncation=truncation, past=past)


def shown(prompt: Prompt) -> list[tuple[str, Any]]:
    return [(message.type, message.content) for message in prompt.messages()]


def round_of(number: int, size: int = 1) -> list[BaseMessage]:
    calls = [{"name": "f", "args": {}, "id": f"c{number}{index}", "type": "tool_call"} for index in range(2)]
    outputs = [ToolMessage(f"output {number} " * size, tool_call_id=call["id"]) for call in calls]
    return [AIMessage("", tool_calls=calls), *outputs]


TALK = [
    posted("user", "q1"),
    posted("assistant", "a1"),
    posted("user", "q2"),
    posted("assistant", "a2"),
    posted("user", "q3"),
]


def test_the_prompt_is_system_message_thread_then_exchange() -> None:
    prompt = build(*TALK, exchange=round_of(1))
    assert shown(prompt)[:6] == [
        ("system", "be brief"), ("human", "q1"), ("ai", "a1"), ("human", "q2"), ("ai", "a2"), ("human", "q3")
    ]  # fmt: skip
    assert [message.type for message in prompt.messages()[6:]] == ["ai", "tool", "tool"]
    assert prompt.dropped == 0


@pytest.mark.parametrize("instructions", ["", "  \n"])
def test_empty_instructions_make_no_system_message(instructions: str) -> None:
    assert shown(build(TALK[0], instructions=instructions)) == [("human", "q1")]


def test_consecutive_roles_stay_unchanged() -> None:
    history = [posted("assistant", "a"), posted("assistant", "b"), posted("user", "c"), posted("user", "d")]
    assert shown(build(*history))[1:] == [("ai", "a"), ("ai", "b"), ("human", "c"), ("human", "d")]


def test_content_parts_become_text_or_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": "low"}}
    plain = {"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": None}}
    prompt = build(posted("user", "a", "b"), posted("user", "look", image, plain), {"role": "user", "content": "bare"})
    assert shown(prompt)[1:] == [
        ("human", "a\nb"),
        (
            "human",
            [{"type": "text", "text": "look"}, image, {"type": "image_url", "image_url": {"url": "https://h/i.png"}}],
        ),
        ("human", "bare"),
    ]


def test_an_incomplete_answer_counts_if_it_has_text() -> None:
    history = [
        posted("user", "q"),
        posted("assistant", "half an", status="incomplete"),
        posted("assistant", status="incomplete"),
    ]
    refusal = posted("assistant", {"type": "refusal", "refusal": "no"})
    assert shown(build(*history, refusal))[1:] == [("human", "q"), ("ai", "half an"), ("ai", "no")]


def test_consecutive_texts_next_to_an_image_are_one_part() -> None:
    """LangChain takes 0.1 ms for each part of such a message."""
    image = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}
    content = shown(build(posted("user", "a", "b", image, "c", "d")))[-1][1]
    assert content == [{"type": "text", "text": "a\nb"}, image, {"type": "text", "text": "c\nd"}]


def test_an_image_file_is_refused_in_the_newest_user_message_only() -> None:
    image = {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}}
    with pytest.raises(PromptRefused, match=r"'file-1'.*`image_url`"):
        build(*TALK, posted("user", "look", image))
    assert "[image file file-1]" in shown(build(posted("user", "look", image), posted("user", "well?")))[1][1]
    prompt = build(posted("user", "look", image), posted("assistant", "cannot"), posted("user", "and now?"))
    assert shown(prompt)[1] == ("human", "look\n[image file file-1]")


@pytest.mark.parametrize(
    ("count", "kept"),
    [(1, ["q3"]), (2, ["a2", "q3"]), (5, ["q1", "a1", "q2", "a2", "q3"]), (9, ["q1", "a1", "q2", "a2", "q3"]),
     (None, ["q1", "a1", "q2", "a2", "q3"])],
)  # fmt: skip
def test_last_messages_keeps_the_last_n(count: int | None, kept: list[str]) -> None:
    prompt = build(*TALK, truncation={"type": "last_messages", "last_messages": count})
    assert [text for _, text in shown(prompt)[1:]] == kept


def test_last_messages_never_loses_the_newest_user_message() -> None:
    history = [*TALK, posted("assistant", "a3"), posted("assistant", "a4")]
    prompt = build(*history, truncation={"type": "last_messages", "last_messages": 1})
    assert [text for _, text in shown(prompt)[1:]] == ["q3", "a4"]


def test_fit_drops_whole_turns_oldest_first() -> None:
    prompt = build(*TALK)
    assert prompt.fit(prompt.tokens()) is prompt
    shorter = prompt.fit(prompt.tokens() - 1)
    assert shorter is not None
    assert [text for _, text in shown(shorter)] == ["be brief", "q2", "a2", "q3"]
    assert shorter.dropped == 2
    newest = build(TALK[-1])
    minimum = prompt.fit(newest.tokens())
    assert minimum is not None
    assert shown(minimum) == shown(newest)
    assert prompt.fit(newest.tokens() - 1) is None


def test_old_rounds_are_dropped_last_and_completely() -> None:
    prompt = build(*TALK, exchange=[*round_of(1), *round_of(2)])
    minimum = build(TALK[-1], exchange=round_of(2))
    shorter = prompt.fit(minimum.tokens())
    assert shorter is not None
    assert shown(shorter) == shown(minimum)
    assert prompt.fit(minimum.tokens() - 1) is None
    assert shorter.dropped == 4 + 3


def test_fitting_takes_time_in_proportion_to_the_turns() -> None:
    """A thread's 4,000 short turns take 4,000 steps: their square would stop the event loop for seconds."""
    asked = [{**posted("user", f"q{number}"), "id": f"msg_{number}"} for number in range(4_000)]
    past = {message["id"]: [PastRound((PastCall("call_1", "call_1", "f", "{}", "x" * 20),))] for message in asked[:-1]}
    prompt = build(*asked, past=past)
    for fitted in (
        lambda: prompt.fit(50),
        lambda: prompt.fit(1),
        lambda: prompt.shrink(ContextOverflow("too long", limit=100, used=100_000)),
        prompt.shortest,
    ):
        limit_cpu_time(0.15, fitted)


@given(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.integers(0, 600))
def test_fit_equals_dropping_step_by_step(turns: int, calls: int, rounds: int, limit: int) -> None:
    asked = [{**posted("user", "q" * 40 * number), "id": f"msg_{number}"} for number in range(turns + 1)]
    past = {each["id"]: [PastRound((PastCall("c", "c", "f", "{}", "x" * 90),))] for each in asked[:calls]}
    exchange = [message for number in range(rounds) for message in round_of(number, 20)]
    prompt = build(*asked, exchange=exchange, past=past)
    one: Prompt | None = prompt
    shortest = prompt
    while one is not None and one.tokens() > limit:
        shortest, one = one, one.without_oldest()
    assert prompt.fit(limit) == one
    if one is None:
        assert prompt.shortest() == shortest


messages = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.integers(1, 400)), max_size=12)


@given(messages, st.integers(0, 4), st.integers(0, 2000))
def test_the_invariants_hold_whatever_is_dropped(talk: list[tuple[str, int]], rounds: int, limit: int) -> None:
    history = [posted(role, f"{index}:" + "x" * size) for index, (role, size) in enumerate(talk)]
    exchange = [message for number in range(rounds) for message in round_of(number, 20)]
    prompt = build(*history, exchange=exchange)
    kept = prompt.fit(limit)
    if kept is None:
        return
    assert kept.tokens() <= limit
    everything, rest = prompt.messages(), kept.messages()
    assert isinstance(rest[0], SystemMessage)
    said_before, in_run = everything[1 : len(talk) + 1], everything[len(talk) + 1 :]
    kept_before = [message for message in rest[1:] if message in said_before]
    kept_in_run = rest[1 + len(kept_before) :]
    # Both are suffixes: the oldest are dropped first, none from the middle; rounds of this run after all turns.
    assert said_before[len(said_before) - len(kept_before) :] == kept_before
    assert in_run[len(in_run) - len(kept_in_run) :] == kept_in_run
    assert kept.dropped == len(everything) - len(rest)
    users = [message for message in everything if isinstance(message, HumanMessage)]
    if users:
        assert users[-1] in rest
    calls = {call["id"] for message in rest if isinstance(message, AIMessage) for call in message.tool_calls}
    assert calls == {message.tool_call_id for message in rest if isinstance(message, ToolMessage)}


def long_talk(turns: int = 20, size: int = 400) -> list[dict[str, Any]]:
    return [posted(role, "x" * size) for _ in range(turns) for role in ("user", "assistant")] + [posted("user", "now?")]


@pytest.mark.parametrize(
    ("limit", "used"), [(None, None), (2048, None), (2048, 5300), (2048, 2078), (100, 9000), (10**6, None)]
)
def test_shrinking_always_makes_progress_and_ends(limit: int | None, used: int | None) -> None:
    prompt: Prompt | None = build(*long_talk())
    steps = 0
    while prompt is not None:
        before, kept = prompt.dropped, prompt
        prompt = prompt.shrink(ContextOverflow("too long", limit=limit, used=used))
        assert prompt is None or prompt.dropped > before
        steps += 1
    assert [text for _, text in shown(kept)] == ["be brief", "now?"]
    assert steps < 42


def test_shrinking_uses_the_reported_limit_and_count() -> None:
    prompt = build(*long_talk())
    shorter = prompt.shrink(ContextOverflow("too long", limit=2048, used=4096))
    assert shorter is not None
    assert 0.35 < shorter.chars / prompt.chars <= 0.5 * 0.85
    halved = prompt.shrink(ContextOverflow("too long"))
    assert halved is not None
    assert 0.4 < halved.chars / prompt.chars <= 0.5


def test_a_prompt_that_cannot_shrink_is_none() -> None:
    assert build(posted("user", "x" * 9000)).shrink(ContextOverflow("too long", limit=100)) is None
    assert build(posted("user", "x"), exchange=round_of(1, 999)).shrink(ContextOverflow("too long")) is None


def test_the_estimate_counts_everything_that_is_sent() -> None:
    one = build(posted("user", "x" * 1000), instructions="")
    assert one.tokens(0.25) >= 250
    assert build(posted("user", "x" * 1000), instructions="y" * 1000).chars >= one.chars + 1000
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert 1000 < build(posted("user", image)).chars < 10_000
    assert build(TALK[0], exchange=round_of(1, 100)).chars > 1800
    assert build().messages() == [SystemMessage("be brief")]


def past_of(*messages: dict[str, Any], size: int = 100, **fields: Any) -> dict[str, list[PastRound]]:
    call = PastCall("call_1", "up1", "f", '{"a": 1}', "output" * size)
    return {message["id"]: [PastRound((call,), **fields)] for message in messages}


CALLED = [{**message, "id": f"msg_{number}"} for number, message in enumerate(TALK)]


def test_calls_of_earlier_runs_follow_their_message() -> None:
    prompt = build_prompt(instructions="", history=CALLED, exchange=(), truncation=AUTO, past=past_of(CALLED[0]))
    assert [message.type for message in prompt.messages()] == ["human", "ai", "tool", "ai", "human", "ai", "human"]


def test_calls_are_part_of_the_text_of_their_reply() -> None:
    past = past_of(CALLED[1], has_text=True)
    prompt = build_prompt(instructions="", history=CALLED, exchange=(), truncation=AUTO, past=past)
    assert [message.type for message in prompt.messages()] == ["human", "ai", "tool", "human", "ai", "human"]
    assert prompt.messages()[1].content == "a1"


@pytest.mark.parametrize(("at", "id", "fields"), [(0, "call_1", ""), (4, "up1", "kept")], ids=["older", "current"])
def test_engines_get_their_ids_and_fields_in_the_current_turn_only(at: int, id: str, fields: str) -> None:
    past = past_of(CALLED[at], extra_fields="kept")
    prompt = build_prompt(instructions="", history=CALLED, exchange=(), truncation=AUTO, past=past)
    made = next(message for message in prompt.messages() if isinstance(message, AIMessage) and message.tool_calls)
    assert made.tool_calls[0]["id"] == id
    assert extra_fields(made) == fields


def test_the_calls_of_all_older_turns_are_dropped_before_any_message() -> None:
    past = past_of(CALLED[0], CALLED[2])
    prompt = build_prompt(instructions="", history=CALLED, exchange=(), truncation=AUTO, past=past)
    plain = build_prompt(instructions="", history=CALLED, exchange=(), truncation=AUTO)
    fitted = prompt.fit(plain.tokens())
    assert fitted is not None
    assert (shown(fitted), fitted.dropped) == (shown(plain), 0)


def test_all_but_the_last_current_calls_can_be_dropped() -> None:
    past = {CALLED[4]["id"]: past_of(CALLED[4])[CALLED[4]["id"]] * 3}
    prompt = build_prompt(instructions="", history=CALLED[4:], exchange=(), truncation=AUTO, past=past)
    assert [message.type for message in prompt.shortest().messages()] == ["human", "ai", "tool"]
