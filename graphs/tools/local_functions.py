"""Functions of the program itself as tools: their schemas for the model, and their calls.

Invariant: every error of a function becomes text for the model, as with actions; only cancellation is raised.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from chains.prompts import FAILED, fill
from wire.json import Json, JsonObject
from wire.runs import WantedCall

__all__ = ["LocalFunctions", "LocalTool"]

logger = logging.getLogger("threadhold.tools")

LocalTool = BaseTool | Callable[..., Any] | JsonObject
"""A LangChain tool or a Python function, called here; or a tool in the API's form, for the caller or an API."""


class LocalFunctions:
    """The tools in the form that assistants have (`specs`), and the functions that are called here."""

    def __init__(self, tools: Iterable[LocalTool]) -> None:
        """Read the schemas. Raises ValueError for a function that has no docstring."""
        self.specs: list[JsonObject] = []
        self._tools: dict[str, BaseTool] = {}
        for given in tools:
            if isinstance(given, dict):
                self.specs.append(given)
                continue
            tool = given if isinstance(given, BaseTool) else _tool(given)
            self._tools[tool.name] = tool
            self.specs.append(convert_to_openai_tool(tool))

    @property
    def names(self) -> list[str]:
        """The names of the functions that are called here."""
        return list(self._tools)

    def has(self, call: WantedCall) -> bool:
        """Whether the call is made here."""
        return call["function"]["name"] in self._tools

    async def outputs(self, calls: Sequence[WantedCall]) -> list[dict[str, str]]:
        """Call, concurrently, our functions among a run's waiting calls; returns their tool outputs."""
        return await asyncio.gather(*(self._output(call) for call in calls if self.has(call)))

    async def _output(self, call: WantedCall) -> dict[str, str]:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        try:
            given = json.loads(arguments or "{}")
            output = await self._tools[name].ainvoke(given)
        # The program's own functions can raise anything; the model gets the error and can try again.
        except Exception as error:
            logger.info("function %s failed", name, exc_info=error)
            output = fill(FAILED, name=name, error=f"{type(error).__name__}: {error}")
        return {"tool_call_id": call["id"], "output": output if isinstance(output, str) else _as_text(output)}


def _tool(function: Callable[..., Any]) -> BaseTool:
    is_waited_for = asyncio.iscoroutinefunction(function)
    return StructuredTool.from_function(
        func=None if is_waited_for else function, coroutine=function if is_waited_for else None
    )


def _as_text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
