"""Functions of the program itself as tools: what the model is told of them, and calling them.

Law: whatever a function does wrong is text for the model, as with actions; only cancellation is raised.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

__all__ = ["Given", "LocalFunctions"]

logger = logging.getLogger("threadhold.tools")

Given = BaseTool | Callable[..., Any] | dict[str, Any]
"""A tool of LangChain's or a Python function, called here; or a tool as the API has it, for the caller or an API."""


class LocalFunctions:
    """The tools as assistants have them (`specs`), and the functions behind those that are called here."""

    def __init__(self, tools: Iterable[Given]) -> None:
        """Read the schemas. Raises ValueError for a function that has no docstring."""
        self.specs: list[dict[str, Any]] = []
        self._tools: dict[str, BaseTool] = {}
        for given in tools:
            if isinstance(given, dict):
                self.specs.append(given)
                continue
            tool = given if isinstance(given, BaseTool) else _tool(given)
            self._tools[tool.name] = tool
            self.specs.append(convert_to_openai_tool(tool))

    def has(self, call: dict[str, Any]) -> bool:
        """Whether the call is made here."""
        return call["function"]["name"] in self._tools

    async def outputs(self, calls: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
        """Make those of a run's waiting calls that are ours, at once; returns their tool outputs."""
        return await asyncio.gather(*(self._output(call) for call in calls if self.has(call)))

    async def _output(self, call: dict[str, Any]) -> dict[str, str]:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        try:
            given = json.loads(arguments or "{}")
            told = await self._tools[name].ainvoke(given)
        # The program's own functions raise what they like; the model is told, and may try again.
        except Exception as error:
            logger.info("function %s failed", name, exc_info=error)
            told = f"`{name}` failed: {type(error).__name__}: {error}"
        return {"tool_call_id": call["id"], "output": told if isinstance(told, str) else _spelled(told)}


def _tool(function: Callable[..., Any]) -> BaseTool:
    is_waited_for = asyncio.iscoroutinefunction(function)
    return StructuredTool.from_function(
        func=None if is_waited_for else function, coroutine=function if is_waited_for else None
    )


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
