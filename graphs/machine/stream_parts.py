"""The stream parts that the nodes of a run emit, one for each event in a reply or its calls.

Only `graphs/record.py` turns them into rows and events. The parts of one reply are strictly serial: a message is closed
before calls open. An event that OpenAI's API does not have and that changes at most the run's row is a `CustomEvent`
and needs no class of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from wire.event_names import CustomEventName
from wire.json import Json, JsonObject

__all__ = [
    "Call",
    "CallAnswered",
    "CallDelta",
    "CallsAnswered",
    "CallsMade",
    "CallsOpened",
    "Citation",
    "CustomEvent",
    "CutReason",
    "EndReason",
    "MessageClosed",
    "MessageOpened",
    "ReasoningDelta",
    "RefusalDelta",
    "RunEnded",
    "StreamPart",
    "TextDeltas",
    "Usage",
]


CutReason = Literal["max_tokens", "content_filter"]
"""Why a message is incomplete, as on the wire."""

EndReason = Literal["max_completion_tokens", "max_prompt_tokens", "content_filter"]
"""Why a run is incomplete, as on the wire."""


class Usage(TypedDict):
    """Tokens, as on the wire."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Call(TypedDict):
    """One tool call of a reply. `id` is ours and goes on the wire; `upstream_id` is the one from the model's server."""

    id: str
    upstream_id: str
    name: str
    arguments: str
    kind: NotRequired[str]
    """Its type in run steps; `function` if it is missing."""


@dataclass(frozen=True, slots=True)
class MessageOpened:
    """The message of the reply opens."""

    step_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class TextDeltas:
    """Fragments of the message's text that arrived together; each becomes a delta of its own."""

    message_id: str
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Citation:
    """A fragment of the message's text that is the marker of a passage from a file."""

    message_id: str
    marker: str
    file_id: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A fragment of the model's reasoning, which is no part of the message. The message comes later or not at all.

    `reclassified`: all text of the message so far was reasoning, too, and is removed from the message.
    """

    message_id: str
    text: str
    reclassified: bool = False


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A fragment of the model's refusal."""

    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MessageClosed:
    """The message is complete, or a limit cut it short (`reason` is the wire's incomplete reason)."""

    step_id: str
    message_id: str
    usage: Usage
    reason: CutReason | None = None


@dataclass(frozen=True, slots=True)
class CallsOpened:
    """The step of the reply's tool calls opens."""

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
    """All calls of the reply are complete, as in the deltas; `cut_off` if a token limit cut off the last one."""

    step_id: str
    calls: tuple[Call, ...]
    usage: Usage
    cut_off: bool = False
    message_id: str = ""
    """The id that the reply's message has or would have."""
    extra_fields: str = ""
    """What the engine requires back with the calls; see `chains.extra_fields`."""


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """One server-side call has its output; the step continues. See `graphs.tools.port.Outcome` for the other fields."""

    step_id: str
    call_id: str
    output: str
    details: JsonObject | None = None
    contents: list[Json] | None = None


@dataclass(frozen=True, slots=True)
class CallsAnswered:
    """Every call of the step has its output; the step is complete."""

    step_id: str
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class CustomEvent:
    """An event that OpenAI's API does not have and that changes no row but the run's. `message_id` is the reply's.

    `run_changes` are fields of the run that change with the event. If the run already has these values, the event is
    omitted.
    """

    name: CustomEventName
    message_id: str
    fields: Mapping[str, object]
    run_changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The graph has ended; `reason` is the wire's incomplete reason, None for completed."""

    reason: EndReason | None


StreamPart: TypeAlias = (
    MessageOpened
    | TextDeltas
    | Citation
    | ReasoningDelta
    | RefusalDelta
    | MessageClosed
    | CallsOpened
    | CallDelta
    | CallsMade
    | CallAnswered
    | CallsAnswered
    | CustomEvent
    | RunEnded
)
