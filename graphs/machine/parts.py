"""What the nodes of a run say while they work, one value a happening. `graphs/record.py` makes rows and events of
them; nothing else writes. Parts of one reply are strictly serial: a message is closed before calls open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

__all__ = [
    "Call",
    "CallAnswered",
    "CallDelta",
    "CallsAnswered",
    "CallsMade",
    "CallsOpened",
    "Citation",
    "LeftOut",
    "MessageClosed",
    "MessageOpened",
    "Part",
    "RefusalDelta",
    "RunEnded",
    "TextDeltas",
    "ThoughtDelta",
    "Usage",
]


class Usage(TypedDict):
    """Tokens, as on the wire."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Call(TypedDict):
    """One tool call of a reply. `id` is ours and goes on the wire; `upstream_id` is what the model's server said."""

    id: str
    upstream_id: str
    name: str
    arguments: str
    kind: NotRequired[str]
    """Its type in run steps; `function` if it is missing."""


@dataclass(frozen=True, slots=True)
class MessageOpened:
    """The reply begins with text."""

    step_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class TextDeltas:
    """Fragments of the message's text that came together, each a delta of its own."""

    message_id: str
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Citation:
    """A fragment of the message's text that is the marker of a passage from a file."""

    message_id: str
    marker: str
    file_id: str


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    """A fragment of what the model thinks; no part of the message, which may come later or not at all.

    `taken`: all text of the message so far was thoughts too, and is none of its text any more.
    """

    message_id: str
    text: str
    taken: bool = False


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A fragment of the model's refusal."""

    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MessageClosed:
    """The message is whole, or cut short by a limit (`reason` is the wire's incomplete reason)."""

    step_id: str
    message_id: str
    usage: Usage
    reason: Literal["max_tokens", "content_filter"] | None = None


@dataclass(frozen=True, slots=True)
class CallsOpened:
    """The reply begins to call tools."""

    step_id: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A fragment of a call. `call_id` and `name` come once, with the first fragment of that index."""

    step_id: str
    index: int
    call_id: str | None
    name: str | None
    arguments: str
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class CallsMade:
    """All calls of the reply are known, as in the deltas; `cut_off` when a limit ended the last one early."""

    step_id: str
    calls: tuple[Call, ...]
    usage: Usage
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """One server-side call has its output; the step continues. See `graphs.tools.port.Outcome` for the other fields."""

    step_id: str
    call_id: str
    output: str
    details: dict[str, Any] | None = None
    contents: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class CallsAnswered:
    """Every call of the step has its output; the step is done."""

    step_id: str
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The prompt of a reply left out that many of the thread's messages, or more (`at_least`), for their length.

    `message_id` is that of the reply; `context_limit` is in tokens, None where nothing has told it.
    """

    message_id: str
    messages: int
    at_least: bool
    context_limit: int | None


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The graph came to its end; `reason` is the wire's incomplete reason, None for completed."""

    reason: Literal["max_completion_tokens", "max_prompt_tokens", "content_filter"] | None


Part: TypeAlias = (
    MessageOpened
    | TextDeltas
    | Citation
    | ThoughtDelta
    | RefusalDelta
    | MessageClosed
    | CallsOpened
    | CallDelta
    | CallsMade
    | CallAnswered
    | CallsAnswered
    | LeftOut
    | RunEnded
)
