"""What a run's graph remembers (its state) and what it is given (its context).

Law 1: the state holds this run's own exchange only, never the thread's history, so a checkpoint's size does not grow
with the thread. What cannot be checkpointed (connections, history, tools) is the context, made anew at each take-up.
"""

import operator
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired

from langchain_core.messages import BaseMessage
from typing_extensions import TypedDict

from chains.ports import ChatBackend
from graphs.machine.metrics import RunMetrics
from graphs.machine.parts import Call, Part, Usage
from graphs.machine.spec import RunSpec
from graphs.tools.toolset import ToolSet
from retrieval.grounding import Source

__all__ = ["Act", "Reply", "RunContext", "RunState"]


class Reply(TypedDict):
    """The newest reply, so that its rows and events can be made again after a crash. `number` counts from 0."""

    number: int
    text: str
    calls: list[Call]
    usage: Usage
    finish: str | None


class RunState(TypedDict, total=False):
    """The graph's channels."""

    exchange: Annotated[list[BaseMessage], operator.add]
    """This run's replies with tool calls and the outputs they got; empty until the first call."""
    replies: int
    """How many replies the model has given."""
    reply: Reply
    """The newest of them."""
    outputs: Annotated[dict[str, str], operator.or_]
    """Outputs by call id, of every call of this run."""
    sources: Annotated[dict[str, Source], operator.or_]
    """Passages that the model was shown, by the numbers in their markers (`search:passage`)."""
    searches: Annotated[int, operator.add]
    """How many calls that return passages the run has made; the first number in a marker counts them, also those that
    found nothing, as the run's steps show them."""
    exchange_bytes: Annotated[int, operator.add]
    """Bytes of all calls and outputs so far, as JSON (see `graphs.machine.exchange`)."""
    approved: list[str]
    """Ids of consequential calls that the client let pass and that are still to be made."""
    usage: Usage
    """Tokens of all replies so far."""
    owed: Usage
    """What of them no step shows yet: of replies that were nothing but wrong calls. The next step bears it."""
    ended: str | None
    """Why the run ends early, as the wire's incomplete reason; None while it goes on or ends well."""


class Act(TypedDict):
    """What one `act` task is sent."""

    call: Call
    step_id: str
    search: int
    """How many calls that return passages the run made before this one."""
    max_bytes: NotRequired[int]
    """Maximum bytes that this call's output can add to the exchange; missing in checkpoints of earlier versions."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the nodes work with."""

    spec: RunSpec
    model: ChatBackend
    tools: ToolSet
    history: Callable[[], Awaitable[list[dict[str, Any]]]]
    """Loads the thread's messages from before this run's own, oldest first; cached by the giver."""
    emit: Callable[[Part], None]
    """Says to the run what happened: rows and events come of it at once."""
    count_usage: Callable[[Usage], None]
    """Books tokens of a reply that is broken off, on the step that is open."""
    backpressure: Callable[[], Awaitable[None]]
    """Waits, seldom, until the store has caught up with what was said; wanted between reads of an answer."""
    note_output: Callable[[], None] = lambda: None
    """Called when a reply's first output comes from the model: text, a refusal, a thought or a tool call."""
    reserve: Callable[[int], bool] = lambda _: True
    """Counts memory for an output of so many bytes; returns False if none is free, and the output is then omitted."""
    clipped: bool = False
    """Whether the thread has older messages that `history` does not have."""
    metrics: RunMetrics = field(default_factory=RunMetrics)
