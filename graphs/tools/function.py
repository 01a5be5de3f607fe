"""The tool `function`: a function of the client's program. A run waits for its output."""

from typing import TYPE_CHECKING, Any, Final

from graphs.machine.parts import Call
from graphs.tools.port import Kind, Offer, StepCalls, Tools

if TYPE_CHECKING:
    from graphs.tools.resources import Resources

__all__ = ["FUNCTION", "FUNCTION_CALLS"]


def _offer(tools: Tools, _: "Resources", taken: set[str]) -> list[Offer]:
    """Offer each function under its own name."""
    taken.update(tool["function"]["name"] for _, tool in tools)
    return [Offer(index, {"type": "function", "function": _with_parameters(tool["function"])}) for index, tool in tools]


def _with_parameters(function: dict[str, Any]) -> dict[str, Any]:
    # OpenAI accepts functions without parameters; several upstreams do not.
    if function.get("parameters") is not None:
        return function
    return {**function, "parameters": {"type": "object", "properties": {}}}


def _show(call: Call) -> dict[str, Any]:
    return {"name": call["name"], "arguments": call["arguments"], "output": None}


def _answer(shown: dict[str, Any], output: str) -> None:
    shown["output"] = output


FUNCTION: Final = Kind(_offer)
"""Functions of the client."""

FUNCTION_CALLS: Final = StepCalls(
    start=lambda name: {"name": name, "arguments": "", "output": None},
    show=_show,
    arguments_delta=lambda arguments: {"arguments": arguments},
    answer=_answer,
)
"""Calls of functions and of actions: name, arguments, output."""
