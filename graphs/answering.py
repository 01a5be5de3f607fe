"""A run without tools as a single node: one reply, and the end.

LangGraph makes two Runnables of a function, each with callbacks, a context and a task of its own. Where nobody follows
callbacks nothing comes of them but processor time.
"""

from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.runtime import Runtime

from chains.reply import is_followed
from graphs import nodes
from graphs.state import RunContext

__all__ = ["CONTEXT", "Answer"]

CONTEXT: Final = "context"
"""Where in the config's `configurable` the run's context is. LangGraph's own place for it has no public name."""


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
        await (_FOLLOWED.ainvoke(input, config) if is_followed(config) else _answer(input, config))


async def _answer(begin: bool, config: RunnableConfig) -> None:
    del begin
    runtime: Runtime[RunContext] = Runtime(context=config["configurable"][CONTEXT])
    await nodes.finish(await nodes.reply({}, runtime), runtime)


_FOLLOWED: Final = RunnableLambda(_answer, name=Answer.name)
