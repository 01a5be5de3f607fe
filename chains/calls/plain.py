"""Converts a conversation for models without a tool role: strict turns, with calls and outputs as text. Pure.

Invariants: there is at most one system message, and it is first. User and assistant alternate; the user is first.
A call's output is part of the user's turn. The model's own JSON is not shown to it again, because it would imitate it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from chains.chat_types import MessageContent
from chains.prompts import Prompts, fill

__all__ = [
    "alternating_turns",
    "answered_calls",
    "canonical",
    "current_turn",
    "fold_system",
    "merge_turns",
    "plain_messages",
    "side",
    "transcript",
]

_SHOWN: Final = 6  # last messages of the conversation that the choice of a function sees
_SHOWN_CHARS: Final = 2_000  # of each
_NOTHING: Final = "…"  # a user's turn without text; servers also refuse an empty one


def plain_messages(
    messages: Sequence[BaseMessage], prompts: Prompts, *, system: str = "", last: str = ""
) -> list[BaseMessage]:
    """Return the messages in strict turns; `system` is added to the instructions, `last` to the last user turn."""
    converted = [_system(messages, system), *_turns(messages, prompts)]
    turns = [message for message in converted if message is not None]
    if last:
        turns.append(HumanMessage(last))
    return merge_turns(turns)


def fold_system(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages in strict turns, with the system message at the start of the first user turn."""
    folded = [HumanMessage(message.content) if isinstance(message, SystemMessage) else message for message in messages]
    return merge_turns(folded)


def alternating_turns(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages in the order that every server accepts: the user first and last, no role twice in a row.

    Without a user message, the system message becomes one.
    """
    has_user = any(isinstance(message, HumanMessage) for message in messages)
    turns = merge_turns(messages) if has_user else fold_system(messages)
    ends_well = any(not isinstance(message, SystemMessage) for message in turns) and side(turns[-1]) != "ai"
    return turns if ends_well else [*turns, HumanMessage(_NOTHING)]


def merge_turns(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Join neighbours of one role. Insert an empty user turn before a leading assistant turn, as templates require."""
    merged: list[BaseMessage] = []
    for message in messages:
        last = merged[-1] if merged else None
        if last is not None and side(last) and side(last) == str(message.type):
            joined = _joined(last.content, message.content) if message.content else last.content
            merged[-1] = (message if side(message) == "" else last).model_copy(update={"content": joined})
        else:
            if isinstance(message, AIMessage) and not any(isinstance(each, HumanMessage) for each in merged):
                merged.append(HumanMessage(_NOTHING))
            merged.append(message)
    return merged


def side(message: BaseMessage) -> str:
    """Return the role of a message; empty for messages that cannot be joined: tool outputs, and calls."""
    if isinstance(message, ToolMessage) or (isinstance(message, AIMessage) and message.tool_calls):
        return ""
    return str(message.type)


def transcript(messages: Sequence[BaseMessage], prompts: Prompts) -> str:
    """Return the end of the conversation as one text. A single message is returned without its role."""
    turns = merge_turns([message for message in _turns(messages, prompts) if message is not None])[-_SHOWN:]
    texts = [_text(message)[-_SHOWN_CHARS:] for message in turns]
    if len(turns) == 1:
        return texts[0]
    sides = ["assistant" if isinstance(message, AIMessage) else "user" for message in turns]
    return "\n".join(f"{side}: {text}" for side, text in zip(sides, texts, strict=True))


def answered_calls(messages: Sequence[BaseMessage]) -> set[tuple[str, str]]:
    """Return (name, arguments as canonical JSON) of every call of the current turn that has its output."""
    messages = current_turn(messages)
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    return {
        (call["name"], canonical(call["args"]))
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
        if call["id"] in answered
    }


def current_turn(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """Return the messages after the newest user message: earlier calls do not answer it."""
    users = (at for at in reversed(range(len(messages))) if isinstance(messages[at], HumanMessage))
    return messages[next(users, -1) + 1 :]


def canonical(arguments: object) -> str:
    """Return arguments as text that is equal for equal arguments."""
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False)


def _system(messages: Sequence[BaseMessage], added: str) -> SystemMessage | None:
    texts = [_text(message) for message in messages if isinstance(message, SystemMessage)]
    text = "\n\n".join(filter(None, [*texts, added]))
    return SystemMessage(text) if text else None


def _turns(messages: Sequence[BaseMessage], prompts: Prompts) -> list[BaseMessage | None]:
    calls = {
        str(call["id"]): call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls
    }
    return [_turn(message, calls, prompts) for message in messages if not isinstance(message, SystemMessage)]


def _turn(message: BaseMessage, calls: Mapping[str, ToolCall], prompts: Prompts) -> BaseMessage | None:
    if isinstance(message, ToolMessage):
        call = calls.get(message.tool_call_id)
        name = str(message.name or ("?" if call is None else call["name"]))
        arguments = json.dumps({} if call is None else call["args"], ensure_ascii=False)
        return HumanMessage(fill(prompts.result, name=name, arguments=arguments, output=_text(message)))
    if isinstance(message, AIMessage):
        return AIMessage(message.content) if message.content else None
    return message


def _joined(one: MessageContent, other: MessageContent) -> MessageContent:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: MessageContent) -> list[str | dict[str, object]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.get("text", "") for part in message.content if isinstance(part, dict))
