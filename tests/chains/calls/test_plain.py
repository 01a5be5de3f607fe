"""Conversations in strict turns: every chat template accepts them, and no result of a call is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains.calls.plain import alternating_turns, answered_calls, fold_system, plain_messages, transcript
from chains.prompts import DEFAULT_PROMPTS as PROMPTS


def called(name: str = "f", id: str = "a", **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": id, "type": "tool_call"}])


def shown(messages: list[BaseMessage]) -> list[tuple[str, Any]]:
    return [(message.type, message.content) for message in messages]


ASKED: list[BaseMessage] = [
    SystemMessage("S"), HumanMessage("Weather?"), called(x=1), ToolMessage("68 F", tool_call_id="a"),
]  # fmt: skip


def test_results_are_the_users_text_with_name_and_arguments() -> None:
    plain = plain_messages(ASKED, PROMPTS, system="T", last="Now.")
    text = 'Weather?\n\nResult of f({"x": 1}):\n68 F\n\nNow.'
    assert shown(plain) == [("system", "S\n\nT"), ("human", text)]


def test_text_next_to_a_call_stays_the_assistants() -> None:
    message = called()
    message.content = "Let me see."
    plain = plain_messages([HumanMessage("a"), message, ToolMessage("b", tool_call_id="a")], PROMPTS)
    assert [kind for kind, _ in shown(plain)] == ["human", "ai", "human"]


@pytest.mark.parametrize(
    ("messages", "usual"),
    [
        ([], [("human", "…")]),
        ([SystemMessage("S")], [("human", "S")]),
        ([SystemMessage("S"), AIMessage("a")], [("human", "S"), ("ai", "a"), ("human", "…")]),
        (
            [SystemMessage("S"), AIMessage("a"), HumanMessage("b")],
            [("system", "S"), ("human", "…"), ("ai", "a"), ("human", "b")],
        ),
        ([HumanMessage("a"), AIMessage("b")], [("human", "a"), ("ai", "b"), ("human", "…")]),
    ],
)
def test_the_user_is_first_and_last_where_required(messages: list[BaseMessage], usual: list[tuple[str, Any]]) -> None:
    assert shown(alternating_turns(messages)) == usual
    assert alternating_turns(alternating_turns(messages)) == alternating_turns(messages)


def test_usual_messages_stay_unchanged() -> None:
    assert alternating_turns(ASKED) == ASKED


def test_a_lone_question_is_its_own_transcript() -> None:
    assert transcript([SystemMessage("S"), HumanMessage("Hi")], PROMPTS) == "Hi"
    assert transcript([HumanMessage("Hi"), AIMessage("Yes?"), HumanMessage("Bye")], PROMPTS) == (
        "user: Hi\nassistant: Yes?\nuser: Bye"
    )


def test_only_calls_with_an_output_are_answered() -> None:
    assert answered_calls(ASKED) == {("f", '{"x": 1}')}
    assert answered_calls([called()]) == set()


def test_images_survive_the_joining_of_turns() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    folded = fold_system([SystemMessage("S"), HumanMessage([image])])
    assert shown(folded) == [("human", [{"type": "text", "text": "S"}, image])]


def test_native_calls_and_their_outputs_are_never_joined() -> None:
    native = [HumanMessage("a"), called(id="a"), ToolMessage("1", tool_call_id="a"), called(id="b")]
    native += [ToolMessage("2", tool_call_id="b"), ToolMessage("3", tool_call_id="c")]
    assert [message.type for message in fold_system(native)] == ["human", "ai", "tool", "ai", "tool", "tool"]


messages = st.lists(
    st.sampled_from([HumanMessage("h"), AIMessage("a"), AIMessage(""), called(), ToolMessage("t", tool_call_id="a")])
)


@given(messages, st.booleans())
def test_turns_always_alternate_starting_with_the_user(thread: list[BaseMessage], has_system: bool) -> None:
    given = [*([SystemMessage("S")] if has_system else []), *thread]
    plain = plain_messages(given, PROMPTS, last="x")
    kinds = [message.type for message in fold_system(plain)]
    assert kinds == [("human", "ai")[index % 2] for index in range(len(kinds))]
    assert kinds[-1] == "human"
    without_system = [message.type for message in plain if not isinstance(message, SystemMessage)]
    assert without_system == [("human", "ai")[index % 2] for index in range(len(without_system))]
