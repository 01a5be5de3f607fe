"""The functions that a run's tools offer to its model, whatever the tools are on the wire."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from chains.chat_types import FunctionTool
from fairness.fair_limits import REQUESTS
from graphs.tools.kinds import KINDS
from graphs.tools.port import Discovered, Offer, ServerTool, Tools
from graphs.tools.resources import VALIDATION, ToolContext
from telemetry.context import current_owner
from wire.errors import InvalidRequest, PromptRefused, RunError
from wire.json import JsonObject

__all__ = ["DISCOVERY_S", "MAX_TOOLS", "NO_TOOLS", "ToolSet", "build_toolset", "make_toolset", "prepare_tools"]

MAX_TOOLS = 128  # functions and operations together; OpenAI's limit for `tools`

DISCOVERY_S: Final = 30.0
"""How long a run waits for the servers that list its tools."""


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The functions that a model is offered (`specs`), and whether the server or the client answers each of them."""

    specs: tuple[FunctionTool, ...] = ()
    served: Mapping[str, ServerTool] = field(default_factory=dict)
    """The tools that the server calls, by name."""
    functions: frozenset[str] = frozenset()
    """The names of the functions that the client answers."""
    not_offered: tuple[str, ...] = ()
    """Types of tools that this server cannot offer."""
    discover: Callable[[], Awaitable["ToolSet"]] | None = None
    """Returns these tools and those that only other servers know. Raises RunError. The field is None if no other server
    lists tools."""

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

    def requires_approval(self, name: str) -> bool:
        """Whether a call of this name waits for the client's approval."""
        tool = self.served.get(name)
        return tool is not None and tool.preview is not None

    async def completed(self) -> "ToolSet":
        """Return these tools and those that only other servers know. Raises RunError."""
        return self if self.discover is None else await self.discover()

    def forced_call(self, question: str) -> tuple[str, str] | None:
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
    await prepare_tools(tools, context)
    if not any(KINDS[kind].blocks for kind in _by_kind(tools)):
        return build_toolset(tools, context)
    return await REQUESTS.run(current_owner(), build_toolset, tools, context)


async def prepare_tools(tools: Sequence[JsonObject], context: ToolContext = VALIDATION) -> None:
    """Do the asynchronous work that `build_toolset` depends on. Raises Problem."""
    for kind, given in _by_kind(tools).items():
        await KINDS[kind].prepare(given, context)


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
    missing = tuple(dict.fromkeys(tool["type"] for tool in tools if not _is_available(tool["type"], context)))
    made = _as_toolset(offers, missing)
    can_discover = any(KINDS[kind].discover is not None and _is_available(kind, context) for kind in given)
    if context.resources is None or not can_discover:
        return made
    return replace(made, discover=partial(_discover, given, context, offers, taken, missing))


async def _discover(
    given: Mapping[str, Tools],
    context: ToolContext,
    offers: Sequence[Offer],
    taken: set[str],
    not_offered: tuple[str, ...],
) -> ToolSet:
    """Return the tools of the offers, and those that other servers list. Raises RunError."""
    kind, found = "", list[Discovered]()
    try:
        async with asyncio.timeout(DISCOVERY_S):
            for kind in KINDS:
                discover = KINDS[kind].discover
                if discover is not None and kind in given and _is_available(kind, context):
                    found.append(await discover(given[kind], context))
        names = set(taken)
        return _as_toolset([*offers, *(offer for each in found for offer in each(names))], not_offered)
    except TimeoutError:
        message = f"The functions of tools of type `{kind}` could not be listed within {DISCOVERY_S:g} s."
        raise RunError(message) from None
    except InvalidRequest as error:
        raise PromptRefused(error.message) from error


def _as_toolset(offers: Sequence[Offer], not_offered: tuple[str, ...]) -> ToolSet:
    """Return the tools of the offers. Raises InvalidRequest."""
    offers = sorted(offers, key=lambda offer: offer.position)
    served = {offer.tool.name: offer.tool for offer in offers if offer.tool is not None}
    if served and len(offers) > MAX_TOOLS:
        message = f"`tools` offers {len(offers)} functions and operations; at most {MAX_TOOLS} are allowed. Use fewer."
        raise InvalidRequest(message, param="tools", code="array_above_max_length")
    names = frozenset(offer.spec["function"]["name"] for offer in offers)
    return ToolSet(
        specs=tuple(offer.spec for offer in offers),
        served=served,
        functions=names - served.keys(),
        not_offered=not_offered,
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
