"""The kinds of tools that this server can offer. A new kind is registered here, with the resource that it needs."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from graphs.tools.action import ACTION
from graphs.tools.file_search import FILE_SEARCH
from graphs.tools.function import FUNCTION
from graphs.tools.port import Kind, StepCalls
from graphs.tools.resources import Resource, Resources, ToolDeps

__all__ = ["KINDS", "STEP_CALLS", "open_resources"]

KINDS: Final[Mapping[str, Kind]] = {"function": FUNCTION, "action": ACTION, "file_search": FILE_SEARCH}
"""By `type` in `tools`. Functions keep their names; later kinds get names that are free."""

STEP_CALLS: Final[Mapping[str, StepCalls]] = {
    name: kind.step_calls for name, kind in KINDS.items() if kind.step_calls is not None
}
"""By `type` in the calls of a run step."""


@asynccontextmanager
async def open_resources(deps: ToolDeps) -> AsyncIterator[Resources]:
    """Open the resources of all kinds, and close them in reverse order.

    They are closed in the same way whether the process stops or fails, so a task group in a resource does not wrap the
    error. Raises what a resource raises when it opens; those that are already open are then closed.
    """
    stack, opened = AsyncExitStack(), dict[Resource[object], object]()
    try:
        for kind in KINDS.values():
            if kind.resource is not None and kind.resource not in opened:
                opened[kind.resource] = await stack.enter_async_context(kind.resource.open(deps))
        yield Resources(opened)
    finally:
        await stack.aclose()
