"""A run without tools as a single node: one reply, and the end.

LangGraph makes two Runnables of a function, each with callbacks, a context and a task of its own. Where nobody follows
callbacks nothing comes of them, and they are an eighth of what is done before the model is asked. And setting a graph
up takes as long as asking: an answer is begun before its graph, which comes to it while the model thinks.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.runtime import Runtime

from chains.reply import is_followed
from graphs import nodes
from graphs.state import RunContext

__all__ = ["BEGUN", "CONTEXT", "Answer", "begun"]

CONTEXT: Final = "context"
"""Where in the config's `configurable` the run's context is. LangGraph's own place for it has no public name."""

BEGUN: Final = "begun"
"""Where in it the answer's task is, if it was begun before the graph."""


@asynccontextmanager
async def begun(context: RunContext, asked: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """Begin an answer, and go on when the model has been `asked`, or the answer has ended without that.

    For the graph's node to wait for, which is where its errors come out. Leaving stops the answer, with its upstream.
    """
    answer = asyncio.create_task(_answer(context))
    answer.add_done_callback(lambda _: asked.set())
    try:
        await asked.wait()
        yield answer
    finally:
        if not answer.done():
            answer.cancel()
            await asyncio.wait((answer,))
        if not answer.cancelled():
            answer.exception()  # known, also where no node came to wait for it


class Answer(Runnable[bool, None]):
    """The node. Its input says nothing."""

    name = "answer"

    def invoke(self, input: bool, config: RunnableConfig | None = None, **kwargs: Any) -> None:
        """Runs are asynchronous. Raises NotImplementedError."""
        raise NotImplementedError("A run is asynchronous: use ainvoke or astream.")

    async def ainvoke(self, input: bool, config: RunnableConfig | None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Answer the run whose context the config has."""
        if config is None:
            raise ValueError("The config has the run's context.")
        given = config["configurable"]
        if BEGUN in given:
            await given[BEGUN]
        else:
            await (_FOLLOWED.ainvoke(input, config) if is_followed(config) else _answer(given[CONTEXT]))


async def _answer(context: RunContext) -> None:
    runtime: Runtime[RunContext] = Runtime(context=context)
    await nodes.finish(await nodes.reply({}, runtime), runtime)


async def _followed(begin: bool, config: RunnableConfig) -> None:
    del begin
    await _answer(config["configurable"][CONTEXT])


_FOLLOWED: Final = RunnableLambda(_followed, name=Answer.name)
