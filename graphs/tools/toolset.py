"""The functions that a run's tools offer to its model, whatever the tools are on the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from chains.chat_types import FunctionTool
from fairness.fair_limits import REQUESTS
from graphs.tools.kinds import KINDS
from graphs.tools.port import Offer, ServerTool
from graphs.tools.resources import VALIDATION, ToolContext
from telemetry.context import acting_owner
from wire.errors import InvalidRequest
from wire.json import JsonObject

__all__ = ["MAX_TOOLS", "NO_TOOLS", "ToolSet", "build_toolset", "make_toolset"]

MAX_TOOLS = 128  # functions and operations together; OpenAI's limit for `tools`


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The functions that a model is offered (`specs`), and which of them the server or the client answers."""

    specs: tuple[FunctionTool, ...] = ()
    served: Mapping[str, ServerTool] = field(default_factory=dict)
    """The tools that the server calls, by name."""
    functions: frozenset[str] = frozenset()
    """The names of the functions that the client answers."""
    not_offered: tuple[str, ...] = ()
    """Types of tools that this server cannot offer."""

    @property
    def names(self) -> frozenset[str]:
        """The names of all functions that the model is offered."""
        return self.functions | self.served.keys()

    @property
    def lenient(self) -> frozenset[str]:
        """The client's functions that are not strict: OpenAI passes on their arguments as the model wrote them."""
        strict = {spec["function"]["name"] for spec in self.specs if spec["function"].get("strict")}
        return self.functions - strict

    @property
    def step_types(self) -> dict[str, str]:
        """The types of calls in run steps, by name; calls of other names are of the type `function`."""
        return {name: tool.step_type for name, tool in self.served.items()}

    def name_of(self, step_type: str) -> str | None:
        """Return the name of the first function whose calls have this type; None if there is none."""
        return next((name for name, tool in self.served.items() if tool.step_type == step_type), None)

    def asks_first(self, name: str) -> bool:
        """Whether a call of this name waits for the client's approval."""
        tool = self.served.get(name)
        return tool is not None and tool.asks_first

    def called_first(self, question: str) -> tuple[str, str] | None:
        """Return the name and the arguments of the call that is made for a model that makes no tool calls."""
        for name, tool in self.served.items():
            if (arguments := tool.arguments_for(question)) is not None:
                return name, arguments
        return None

    def for_models_without_calls(self) -> "ToolSet":
        """Return the tools without those that are called first: such a model cannot decide whether to call them."""
        removed = {name for name, tool in self.served.items() if tool.arguments_for("") is not None}
        if not removed:
            return self
        return replace(
            self,
            specs=tuple(spec for spec in self.specs if spec["function"]["name"] not in removed),
            served={name: tool for name, tool in self.served.items() if name not in removed},
        )


NO_TOOLS: Final = ToolSet()
"""The tools of the last round: none."""


async def make_toolset(tools: Sequence[JsonObject], context: ToolContext = VALIDATION) -> ToolSet:
    """Do what `build_toolset` does without blocking the event loop."""
    blocks = False
    for kind, given in _by_kind(tools).items():
        await KINDS[kind].prepare(given)
        blocks = blocks or KINDS[kind].blocks
    if not blocks:
        return build_toolset(tools, context)
    return await REQUESTS.run(acting_owner(), build_toolset, tools, context)


def build_toolset(tools: Sequence[JsonObject], context: ToolContext = VALIDATION) -> ToolSet:
    """Return what `tools` (as stored with their secrets) offer to a model. Blocks if a kind of them does.

    Raises:
        InvalidRequest: a tool is invalid; `param` names it.
    """
    given, taken = _by_kind(tools), set[str]()
    offers: list[Offer] = []
    for kind in KINDS:  # in the order of KINDS: functions keep their names, and other kinds get names that are free
        if kind in given and _is_available(kind, context):
            offers += KINDS[kind].offer(given[kind], context, taken)
    offers.sort(key=lambda offer: offer.position)
    served = {offer.tool.name: offer.tool for offer in offers if offer.tool is not None}
    if served and len(offers) > MAX_TOOLS:
        message = f"`tools` offers {len(offers)} functions and operations; at most {MAX_TOOLS} are allowed. Use fewer."
        raise InvalidRequest(message, param="tools", code="array_above_max_length")
    names = frozenset(offer.spec["function"]["name"] for offer in offers)
    return ToolSet(
        specs=tuple(offer.spec for offer in offers),
        served=served,
        functions=names - served.keys(),
        not_offered=tuple(dict.fromkeys(tool["type"] for tool in tools if not _is_available(tool["type"], context))),
    )


def _is_available(kind: str, context: ToolContext) -> bool:
    """Return whether the process can offer tools of a kind. If they are only validated, no resource is required."""
    if kind not in KINDS:
        return False
    resource = KINDS[kind].resource
    return resource is None or context.resources is None or context.get(resource) is not None


def _by_kind(tools: Sequence[JsonObject]) -> dict[str, list[tuple[int, JsonObject]]]:
    given: dict[str, list[tuple[int, JsonObject]]] = {}
    for index, tool in enumerate(tools):
        if tool["type"] in KINDS:
            given.setdefault(tool["type"], []).append((index, tool))
    return given
