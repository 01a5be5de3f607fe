"""Builds the prompt of a thread: the only module that converts wire messages to LangChain messages. Pure.

Invariants: the instructions come first and always. Turns are dropped whole, oldest first, but the calls of all older
turns before any message. The newest user message is never dropped. Tool calls are never separated from their outputs.
A turn is a user message and the messages up to the next one; a round is an assistant message with tool calls and their
outputs. Attachments are not part of the prompt.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from typing import Any, Final, Self, TypeAlias, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains.calls.arguments import portable_arguments
from chains.chat_types import FunctionTool
from chains.extra_fields import EXTRA_FIELDS, extra_fields
from chains.tokens import DEFAULT_RATIO
from wire.errors import ContextOverflow, PromptRefused
from wire.json import JsonView
from wire.messages import TextValue, plain_text

__all__ = ["THREAD_START", "PastCall", "PastRound", "Prompt", "build_prompt", "calls_message"]

_MESSAGE_CHARS: Final = 16  # approximately what a chat template adds to a message
_IMAGE_CHARS: Final = 3000  # approximate size of an image, in characters
_PROMPT_SHARE: Final = 0.85  # of the context; the rest is for the answer
WireMessage: TypeAlias = JsonView
"""A message of the wire. Imported ones can have older forms than `wire.messages`."""

THREAD_START: Final = ""
"""In place of a message's id: the calls follow no message, as a thread can begin with them."""

_NO_CALLS: Final[Mapping[str, Sequence["PastRound"]]] = {}


@dataclass(frozen=True, slots=True)
class PastCall:
    """An answered call of an earlier run. `upstream_id` is the id that the model's server gave it."""

    id: str
    upstream_id: str
    name: str
    arguments: str
    output: str


@dataclass(frozen=True, slots=True)
class PastRound:
    """The answered calls of one reply of an earlier run."""

    calls: tuple[PastCall, ...]
    extra_fields: str = ""
    """What the engine requires back with the calls; see `chains.extra_fields`."""
    has_text: bool = False
    """Whether the message before the calls is the text of the same reply."""

    def messages(self, text: str, *, is_current: bool) -> list[BaseMessage]:
        """Return the reply with this text, and the outputs.

        Engines require their own ids and fields back only until they have answered. Later, the calls have the server's
        ids, because those of some engines are not unique in a thread.
        """
        ids = [call.upstream_id if is_current else call.id for call in self.calls]
        made = [(id, call.name, call.arguments) for id, call in zip(ids, self.calls, strict=True)]
        outputs = [
            ToolMessage(call.output, tool_call_id=id, name=call.name) for id, call in zip(ids, self.calls, strict=True)
        ]
        return [calls_message(text, made, self.extra_fields if is_current else ""), *outputs]


@dataclass(frozen=True, slots=True)
class _Part:
    """Messages that are kept or dropped together; `chars` is their size in the context."""

    messages: tuple[BaseMessage, ...]
    chars: int
    plain: "Self | None" = None
    """The same turn without its calls; None if it has none."""

    @classmethod
    def of(cls, messages: Iterable[BaseMessage]) -> Self:
        whole = tuple(messages)
        return cls(whole, sum(map(_chars, whole)))

    @classmethod
    def of_turn(cls, turn: Sequence[BaseMessage | PastRound]) -> Self:
        whole = tuple(_turn_messages(turn, is_current=False))
        texts = [each for each in turn if not isinstance(each, PastRound)]
        return cls(whole, sum(map(_chars, whole)), None if len(texts) == len(turn) else cls.of(texts))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that can be shortened. `dropped` counts the messages left out because of the length.

    The calls of `older` turns, `older` turns, and all `rounds` but the last can be dropped, in this order;
    `instructions` and `newest` never are.
    """

    instructions: str
    older: tuple[_Part, ...]
    newest: _Part
    rounds: tuple[_Part, ...]
    dropped: int = 0
    tools: tuple[FunctionTool, ...] = ()
    """The functions that the request offers: they are part of the context, too."""
    tool_chars: int = 0

    def messages(self) -> list[BaseMessage]:
        """Return the messages, the system message first, as strict chat templates require."""
        system = [SystemMessage(self.instructions)] if self.instructions.strip() else []
        return [*system, *(message for part in self._parts() for message in part.messages)]

    @property
    def chars(self) -> int:
        """The size of the prompt in characters, with estimates for images and for the template's own tokens."""
        size = sum(part.chars for part in self._parts())
        return len(self.instructions) + _MESSAGE_CHARS + size + self.tool_chars

    def tokens(self, ratio: float = DEFAULT_RATIO) -> int:
        """Estimate the tokens; `ratio` is tokens per character."""
        return ceil(self.chars * ratio)

    def fit(self, max_tokens: int, ratio: float = DEFAULT_RATIO) -> "Prompt | None":
        """Drop oldest turns until the estimate is within `max_tokens`; None if even the shortest is not."""
        if self.tokens(ratio) <= max_tokens:
            return self
        return self._drop(lambda chars: ceil(chars * ratio) <= max_tokens)

    def shrink(self, overflow: ContextOverflow) -> "Prompt | None":
        """Return a shorter prompt after the upstream refused this one; None if nothing more can be dropped.

        Shrinks to the limit that the upstream reported, by its own count of this prompt if it reported one; else to
        half.
        """
        shorter = self.without_oldest()
        if shorter is None:
            return None
        ratio = overflow.used / self.chars if overflow.used else DEFAULT_RATIO
        target = self.tokens(ratio) // 2
        if overflow.limit and overflow.limit * _PROMPT_SHARE < self.tokens(ratio):
            target = int(overflow.limit * _PROMPT_SHARE)
        return shorter.fit(target, ratio) or shorter.shortest()

    def _parts(self) -> tuple[_Part, ...]:
        return (*self.older, self.newest, *self.rounds)

    def without_oldest(self) -> "Prompt | None":
        """Drop the calls of the oldest turn that has some, or else the oldest turn; None if only the newest is left."""
        return self._drop(lambda _chars: True)

    def shortest(self) -> "Prompt":
        """Drop everything that can be dropped."""
        gone = (*(part.plain or part for part in self.older), *self.rounds[:-1])
        dropped = self.dropped + sum(len(part.messages) for part in gone)
        return replace(self, older=(), rounds=self.rounds[-1:], dropped=dropped)

    def _drop(self, fits: Callable[[int], bool]) -> "Prompt | None":
        """Drop older turns' calls, then turns, at least one, until the size in characters fits; None if it never does.

        Takes time in proportion to the number of turns: a thread can have thousands.
        """
        chars, dropped, older = self.chars, self.dropped, list(self.older)
        for at, part in enumerate(older):
            if part.plain is not None:
                older[at] = part.plain
                chars -= part.chars - part.plain.chars
                if fits(chars):
                    return replace(self, older=tuple(older))
        parts = (*older, *self.rounds[:-1])
        for count, part in enumerate(parts, 1):
            chars -= part.chars
            dropped += len(part.messages)
            if fits(chars):
                rounds = self.rounds[max(0, count - len(older)) :]
                return replace(self, older=tuple(older[count:]), rounds=rounds, dropped=dropped)
        return None


def build_prompt(
    *,
    instructions: str,
    history: Sequence[WireMessage],
    exchange: Sequence[BaseMessage],
    truncation: Mapping[str, object],
    tools: Sequence[FunctionTool] = (),
    past: Mapping[str, Sequence[PastRound]] = _NO_CALLS,
) -> Prompt:
    """Build the prompt of a run.

    Args:
        instructions: the run's effective instructions; empty ones make no system message.
        history: the thread's wire messages, oldest first.
        exchange: this run's own tool calls and outputs so far.
        truncation: the run's `truncation_strategy`.
        tools: the functions that the request offers.
        past: calls of earlier runs, by the id of the message in `history` that they follow, or THREAD_START.

    Raises:
        PromptRefused: the newest user message has a part that no model can read; in older ones a note replaces it.
    """
    newest_user = max((i for i, message in enumerate(history) if message["role"] == "user"), default=-1)
    shown = [
        (message, _to_langchain(message, strict=index == newest_user))
        for index, message in _truncated(history, truncation)
    ]
    start = past.get(THREAD_START, ()) if past and len(shown) == len(history) else ()
    *older, newest = _turns(shown, past, start)  # only the first can lack a user message, so the last has the newest
    # Calls at the end belong to the reply that follows; those before an answer are over.
    current = _turn_messages(newest, is_current=bool(newest) and isinstance(newest[-1], PastRound))
    called = next((at for at, message in enumerate(current) if _has_calls(message)), len(current))
    rounds = _rounds([*current[called:], *exchange])
    return Prompt(
        instructions,
        tuple(map(_Part.of_turn, older)),
        _Part.of(current[:called]),
        tuple(map(_Part.of, rounds)),
        tools=tuple(tools),
        tool_chars=sum(len(str(tool)) for tool in tools),
    )


def _truncated(history: Sequence[WireMessage], truncation: Mapping[str, object]) -> list[tuple[int, WireMessage]]:
    """Return the messages to show, with their indexes: the last n, and the newest user message if it is older."""
    indexed = list(enumerate(history))
    count = truncation.get("last_messages") if truncation.get("type") == "last_messages" else None
    if not isinstance(count, int) or count >= len(indexed):
        return indexed
    last = indexed[len(indexed) - count :]
    if any(message["role"] == "user" for _, message in last):
        return last
    newest = [entry for entry in indexed if entry[1]["role"] == "user"][-1:]
    return [*newest, *last]


def calls_message(text: str, calls: Iterable[tuple[str, str, str]], extra: str) -> AIMessage:
    """Return a reply with calls as a message for the model; `calls` are (id, name, arguments).

    Arguments that are not a JSON object become an empty one: strict servers reject a history with invalid arguments,
    and the call's output already states the error for the model.
    """
    return AIMessage(
        content=text,
        additional_kwargs={EXTRA_FIELDS: extra} if extra else {},
        tool_calls=[
            {"name": name, "args": portable_arguments(arguments), "id": id, "type": "tool_call"}
            for id, name, arguments in calls
        ],
    )


def _turns(
    shown: Iterable[tuple[WireMessage, BaseMessage | None]],
    past: Mapping[str, Sequence[PastRound]],
    start: Sequence[PastRound],
) -> list[list[BaseMessage | PastRound]]:
    turns: list[list[BaseMessage | PastRound]] = [list(start)]
    for message, converted in shown:
        entries = [] if converted is None else [converted]
        rounds = past.get(message["id"], ()) if past else ()
        if isinstance(converted, HumanMessage):
            turns.append([])
        turns[-1] += (*entries, *rounds)
    return [turn for turn in turns if turn] or [[]]


def _turn_messages(turn: Sequence[BaseMessage | PastRound], *, is_current: bool) -> list[BaseMessage]:
    """Return the messages of a turn. Calls are added to the message with the text of their reply."""
    messages: list[BaseMessage] = []
    for entry in turn:
        if not isinstance(entry, PastRound):
            messages.append(entry)
            continue
        joined = messages.pop() if entry.has_text and messages and isinstance(messages[-1], AIMessage) else None
        messages += entry.messages("" if joined is None else str(joined.content), is_current=is_current)
    return messages


def _has_calls(message: BaseMessage) -> bool:
    return isinstance(message, AIMessage) and bool(message.tool_calls)


def _rounds(exchange: Sequence[BaseMessage]) -> list[list[BaseMessage]]:
    rounds: list[list[BaseMessage]] = []
    for message in exchange:
        if not rounds or not isinstance(message, ToolMessage):
            rounds.append([])
        rounds[-1].append(message)
    return rounds


def _to_langchain(message: WireMessage, *, strict: bool) -> BaseMessage | None:
    """Convert a wire message; None for an assistant message without text, cut off before its first word."""
    content = message.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if message["role"] == "assistant":
        text = "\n".join(filter(None, (_text(part) for part in parts)))
        return AIMessage(text) if text else None
    shown = [_user_part(part, strict=strict) for part in parts]
    joined = list(_joined(shown))
    if all(part["type"] == "text" for part in joined):  # every server understands a plain string
        return HumanMessage("\n".join(part["text"] for part in joined))
    return HumanMessage(list[str | dict[Any, Any]](joined))


def _joined(parts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the parts with consecutive texts joined: LangChain takes 0.1 ms for each part next to an image."""
    for kind, some in groupby(parts, key=lambda part: part["type"]):
        if kind == "text":
            yield {"type": "text", "text": "\n".join(part["text"] for part in some)}
        else:
            yield from some


def _user_part(part: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    match part["type"]:
        case "image_url":
            image = part["image_url"]
            named = {name: image[name] for name in ("url", "detail") if image.get(name) is not None}
            return {"type": "image_url", "image_url": named}
        case "image_file":
            file_id = part["image_file"].get("file_id")
            if strict:
                raise PromptRefused(
                    f"The message shows '{file_id}' as an `image_file`, but that is no PNG, JPEG, GIF or WebP image "
                    "of at most 20 MB. Upload one, or send it as `image_url` (a `data:` URL works)."
                )
            return {"type": "text", "text": f"[image file {file_id}]"}
        case _:
            return {"type": "text", "text": _text(part)}


def _text(part: dict[str, Any]) -> str:
    """Return the text of a text or refusal part, without markers of passages that this run has not read; else empty."""
    if part["type"] == "refusal":
        return str(part.get("refusal") or "")
    text = part.get("text")
    return plain_text(cast("TextValue", text)) if isinstance(text, dict) else str(text or "")


def _chars(message: BaseMessage) -> int:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    size = _MESSAGE_CHARS + sum(len(call["name"]) + len(str(call["args"])) for call in calls)
    size += len(extra_fields(message))
    if isinstance(message.content, str):
        return size + len(message.content)
    for part in message.content:
        size += len(part.get("text", "")) or _IMAGE_CHARS if isinstance(part, dict) else len(part)
    return size
