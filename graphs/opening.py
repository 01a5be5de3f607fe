"""How a run opens: its first reply is begun before its graph.

LangGraph takes a millisecond to set a run up, and three until the model is asked where checkpoints are written: it does
so while the model thinks.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from langgraph.runtime import Runtime

from graphs import nodes
from graphs.state import RunContext

__all__ = ["begun"]


@asynccontextmanager
async def begun(context: RunContext, asked: asyncio.Event) -> AsyncIterator[RunContext]:
    """Begin the first reply, and go on when the model has been `asked`, or the reply has ended without that.

    Yields what to give to the graph, whose node `reply` waits for it: its errors come out there. Leaving stops the
    reply, with its upstream.
    """
    reply = asyncio.create_task(nodes.reply({}, Runtime(context=context)))
    reply.add_done_callback(lambda _: asked.set())
    try:
        await asked.wait()
        yield replace(context, begun=reply)
    finally:
        if not reply.done():
            reply.cancel()
            await asyncio.wait((reply,))
        if not reply.cancelled():
            reply.exception()  # known, also where no node came to wait for it
