"""How a run opens: its first reply is begun before its graph.

LangGraph takes a millisecond to set a run up, and three until the model is asked where checkpoints are written: it does
so while the model thinks, or in a crowd after the reply, where the time until then is somebody else's first word.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from langgraph.runtime import Runtime

from graphs import nodes
from graphs.state import RunContext, RunState

__all__ = ["FEW", "begun", "replied"]

FEW: Final = 8
"""So many runs at once are no crowd. Measured with fifty: the worst twentieth waited 8 ms less for the first word."""


@asynccontextmanager
async def begun(context: RunContext, asked: asyncio.Event) -> AsyncIterator[RunContext]:
    """Begin the first reply, and go on when the model has been `asked` (see `Live.asked`), or the reply has ended.

    Yields what to give to the graph, whose node `reply` waits for it: its errors come out there. Leaving stops the
    reply, with its upstream, and waits until it has.
    """
    reply = asyncio.create_task(nodes.reply({}, Runtime(context=context)))
    reply.add_done_callback(lambda _: asked.set())
    try:
        await asked.wait()
        yield replace(context, begun=reply)
    finally:
        await _stop(reply)


async def replied(context: RunContext) -> RunContext:
    """Make the first reply whole, in the caller's own task, and return what to give to the graph. Raises RunError."""
    reply = asyncio.get_running_loop().create_future()
    reply.set_result(await nodes.reply({}, Runtime(context=context)))
    return replace(context, begun=reply)


async def _stop(reply: "asyncio.Task[RunState]") -> None:
    again: asyncio.CancelledError | None = None
    while not reply.done():
        reply.cancel()
        try:
            await asyncio.wait((reply,))
        except asyncio.CancelledError as error:  # the run is stopped once more while the reply takes its time to
            again = error
    if not reply.cancelled():
        reply.exception()  # known, also where no node came to wait for it
    if again is not None:
        raise again
