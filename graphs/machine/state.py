"""The state of a run's graph, which is checkpointed, and its context, which is not.

Invariant: the state contains only this run's own exchange, never the thread's history, so a checkpoint's size does not
grow with the thread. What cannot be checkpointed (connections, history, tools) is in the context, which is made
each time a process starts or continues the run.
"""

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypeAlias

from langchain_core.messages import BaseMessage
from langgraph.types import Command
from typing_extensions import TypedDict

from chains.context import PastRound
from chains.ports import ChatBackend
from graphs.machine.metrics import RunMetrics
from graphs.machine.spec import RunSpec, WireMessage
from graphs.machine.stream_parts import Call, EndReason, StreamPart, Usage
from graphs.tools.toolset import ToolSet
from retrieval.grounding import Source

__all__ = ["Act", "GraphInput", "Reply", "RunContext", "RunState"]


class Reply(TypedDict):
    """The newest reply, from which its rows and events can be restored after a crash. `number` counts from 0."""

    number: int
    text: str
    calls: list[Call]
    usage: Usage
    finish: str | None


class RunState(TypedDict, total=False):
    """The graph's channels."""

    exchange: Annotated[list[BaseMessage], operator.add]
    """This run's replies with tool calls, and the outputs of those calls; empty until the first call."""
    replies: int
    """The number of replies that the model has given."""
    reply: Reply
    """The newest reply."""
    outputs: Annotated[dict[str, str], operator.or_]
    """Outputs by call id, for every call of this run."""
    sources: Annotated[dict[str, Source], operator.or_]
    """Passages that the model was given, by the numbers in their markers (`search:passage`)."""
    searches: Annotated[int, operator.add]
    """The number of the run's calls that return passages. The first number in a marker is from this count, which
    includes searches that found nothing, as the run's steps do."""
    exchange_bytes: Annotated[int, operator.add]
    """Bytes of all calls and outputs so far, as JSON (see `graphs.machine.exchange`)."""
    approved: list[str]
    """Ids of consequential calls that the client approved and that have yet to be executed."""
    usage: Usage
    """Tokens of all replies so far."""
    unreported_usage: Usage
    """The part of `usage` that no step shows yet: tokens of replies with invalid calls only. The next step shows it."""
    ended: EndReason | None
    """The wire's incomplete reason if the run ends early, otherwise None."""


GraphInput: TypeAlias = "RunState | Command[Any] | None"
"""What a graph starts with: nothing, or the outputs that it waits for. None continues from the newest checkpoint."""


class Act(TypedDict):
    """The input of one `act` task."""

    call: Call
    step_id: str
    search: int
    """The number of calls that return passages which the run made before this one."""
    max_bytes: NotRequired[int]
    """Maximum bytes that this call's output can add to the exchange; missing in checkpoints of earlier versions."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the nodes work with."""

    spec: RunSpec
    model: ChatBackend
    tools: ToolSet
    history: Callable[[], Awaitable[Sequence[WireMessage]]]
    """Loads the thread's messages from before this run's own, oldest first. The provider caches them."""
    emit: Callable[[StreamPart], None]
    """Reports a part to the run, which turns it into rows and events immediately."""
    count_usage: Callable[[Usage], None]
    """Counts the tokens of an aborted reply on the open step."""
    count_cached: Callable[[int], None]
    """Counts the tokens of a reply's prompt that the upstream had cached."""
    backpressure: Callable[[], Awaitable[None]]
    """Waits, in rare cases, until the store has caught up; to be awaited between reads of a reply."""
    note_output: Callable[[], None] = lambda: None
    """Called when a reply's first output comes from the model: text, a refusal, reasoning or a tool call."""
    reserve: Callable[[int], bool] = lambda _: True
    """Counts memory for an output of so many bytes; returns False if none is free, and the output is then omitted."""
    clipped: bool = False
    """Whether the thread has older messages that `history` does not have."""
    past: Mapping[str, Sequence[PastRound]] = field(default_factory=dict)
    """The answered calls of the thread's earlier runs, by the id of the message that they follow."""
    metrics: RunMetrics = field(default_factory=RunMetrics)
