"""The port of a run's tools: the nodes, the run and its recorder use tools only through it and name no kind of tool.

Each kind of tool is one file of this package, whose `Kind` is registered in `graphs.tools.kinds`. Every tool is offered
to the model as functions, whatever it is on the wire. The server calls those that are `ServerTool`s; the client answers
the others.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from chains.chat_types import FunctionTool
from graphs.machine.stream_parts import Call
from graphs.tools.resources import Resource, ToolContext
from retrieval.grounding import Source
from wire.items import Item
from wire.json import JsonObject, UncheckedJson

__all__ = [
    "MAX_PREVIEWED",
    "TOO_LONG",
    "CallInput",
    "Discovered",
    "ItemChange",
    "Kind",
    "Offer",
    "Outcome",
    "Preview",
    "PreviewCall",
    "ServerTool",
    "StepCalls",
    "Tools",
]

MAX_PREVIEWED: Final = 8_388_608
"""Maximum total characters of the requests that are shown for approval in one answer."""

TOO_LONG: Final = f"its request is too long to be shown: all requests together exceed {MAX_PREVIEWED} characters"
"""The problem of a preview that exceeds `MAX_PREVIEWED`."""


@dataclass(frozen=True, slots=True)
class CallInput:
    """The input of a call besides its arguments."""

    number: int
    """How many calls that return passages the run made before this one."""
    max_bytes: int
    """Maximum size of the output and the passages, in bytes as JSON."""
    question: Callable[[], Awaitable[str]]
    """Returns the text of the thread's newest user message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call. `output` is the text for the model."""

    output: str
    details: JsonObject | None = None
    """The call's object in its run step, if that shows more than the output."""
    contents: list[UncheckedJson] | None = None
    """Parts of the details that a step shows only if the client asks for them."""
    passages: Mapping[str, Source] = field(default_factory=dict)
    """Passages that the output contains, by the numbers in their markers (`call:passage`)."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a call that waits for approval would send, without credentials."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    """Text; empty if nothing is sent."""
    problem: str | None = None
    """Why the request cannot be shown; `method` and `url` then only say where it would go."""

    @property
    def size(self) -> int:
        """The number of characters."""
        headers = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.url) + len(self.body) + headers


PreviewCall = Callable[[str, int], Awaitable[Preview]]
"""Returns what a call with the given arguments would send. If this exceeds the given number of characters, the problem
is `TOO_LONG`. Invalid arguments are also reported as the problem."""


class ServerTool(Protocol):
    """A function that a model is offered and the server calls."""

    @property
    def name(self) -> str:
        """The name that the model is offered; no other tool of the run has it."""
        ...

    @property
    def step_type(self) -> str:
        """The type of its calls in run steps, whose kind has `step_calls`."""
        ...

    @property
    def label(self) -> str:
        """The kind's name in metrics and spans."""
        ...

    @property
    def preview(self) -> PreviewCall | None:
        """Shows the client what a call would send, before the client approves it. None if calls need no approval."""
        ...

    @property
    def returns_passages(self) -> bool:
        """Whether its outcomes have passages, so that its calls are numbered."""
        ...

    def arguments_for(self, question: str, /) -> str | None:
        """Return the arguments of the call that replaces the first model call for a model that makes no tool calls;
        None if only models call this tool."""
        ...

    async def call(self, call: Call, given: CallInput, /) -> Outcome:
        """Execute a call. Errors become text for the model; only cancellation is raised."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """A function that the model is offered. `tool` is None if the client answers its calls."""

    position: int
    """The functions are offered in the order of their positions."""
    spec: FunctionTool
    """The function as the model's server expects it: `{"type": "function", "function": …}`."""
    tool: ServerTool | None = None


Tools = Sequence[tuple[int, JsonObject]]
"""Tools of one kind as (index in `tools`, tool as stored with its secrets)."""

Discovered = Callable[[set[str]], list[Offer]]
"""Returns what was found. Adds the names to the set, which has the names of other offers."""


async def _nothing(_: Tools, __: ToolContext) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of tool that assistants can have. `wire.tools` declares the secrets of its tools."""

    offer: Callable[[Tools, ToolContext, set[str]], list[Offer]]
    """Returns what tools of this kind offer. Adds their names to the set, which has the names of other offers. Raises
    InvalidRequest."""
    prepare: Callable[[Tools, ToolContext], Awaitable[None]] = _nothing
    """Does the asynchronous work that `offer` and `origins` depend on, before a request that contains tools or starts a
    run is accepted. Raises Problem."""
    discover: Callable[[Tools, ToolContext], Awaitable[Discovered]] | None = None
    """Asks other servers which functions the tools have, each time a process starts or continues a run; these are
    offered in addition to those of `offer`. Its time is limited (`graphs.tools.toolset.DISCOVERY_S`), and an error ends
    the run as failed. Raises RunError."""
    origins: Callable[[JsonObject], frozenset[str]] | None = None
    """Returns the origins that a tool sends its secrets to. Can block. Raises InvalidRequest. If it is None, a tool
    whose address changes loses its secrets."""
    blocks: bool = False
    """Whether `offer` takes so long that it must run in a thread."""
    resource: Resource[object] | None = None
    """What the calls need; a process that does not have it does not offer such tools."""
    step_calls: "StepCalls | None" = None
    """How calls appear in run steps under the tool's own type. None if its calls have another type there."""


@dataclass(frozen=True, slots=True)
class ItemChange:
    """The outcome of a call in the thread's items: fields of the call's own item, or an item of its own (`is_new`)."""

    id: str
    fields: Mapping[str, object]
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class StepCalls:
    """How calls of one type appear in run steps and in the thread's items.

    In a run step, a call is the object under the type's name, next to `id` and `type`. Its item has the same content in
    another shape.
    """

    start: Callable[[str], JsonObject]
    """Returns the object of a call's first delta, given the function's name: SDKs report that delta as the creation of
    the call, and only later ones as deltas, from which programs collect the arguments."""
    show: Callable[[Call], JsonObject]
    """Returns the object of a call that has no output yet."""
    item: Callable[[Call], Item]
    """Returns the item of a call that has no output yet."""
    item_change: Callable[[str, JsonObject, list[UncheckedJson] | None], ItemChange]
    """Returns the outcome as an item, given the call's id, its object with the outcome, and its contents."""
    has_outcome: Callable[[JsonObject], bool]
    """Whether the object has its outcome."""
    arguments_delta: Callable[[str], JsonObject] | None = None
    """Returns the delta of a fragment of the arguments. None if arguments are not shown."""
    answer: Callable[[JsonObject, str], bool] | None = None
    """Adds the output to the object, and returns whether that changes it. None if outputs are not shown."""
    with_contents: Callable[[JsonObject, list[UncheckedJson]], JsonObject] | None = None
    """Returns the object with its contents, for clients that ask for them. None if the calls have no contents."""
    waiting_item: Callable[[str], str] | None = None
    """Returns the id of the item of a call, by the call's id. None if items of calls are complete without outcomes."""
