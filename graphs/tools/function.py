"""The tool `function`: a function of the client's program. A run waits for its output."""

from typing import Final

from chains.chat_types import FunctionSpec
from graphs.machine.stream_parts import Call
from graphs.tools.port import ItemChange, Kind, Offer, StepCalls, Tools
from graphs.tools.resources import ToolContext
from wire.items import FunctionCall, FunctionCallOutput, call_item_id, output_item_id
from wire.json import JsonObject

__all__ = ["FUNCTION", "FUNCTION_CALLS"]


def _offer(tools: Tools, _: ToolContext, taken: set[str]) -> list[Offer]:
    """Offer each function under its own name."""
    taken.update(tool["function"]["name"] for _, tool in tools)
    return [Offer(index, {"type": "function", "function": _with_parameters(tool["function"])}) for index, tool in tools]


def _with_parameters(function: FunctionSpec) -> FunctionSpec:
    # OpenAI accepts functions without parameters; several upstreams do not.
    if function.get("parameters") is not None:
        return function
    return {**function, "parameters": {"type": "object", "properties": {}}}


def _show(call: Call) -> JsonObject:
    return {"name": call["name"], "arguments": call["arguments"], "output": None}


def _answer(shown: JsonObject, output: str) -> bool:
    changes: bool = shown["output"] != output
    shown["output"] = output
    return changes


def _item(call: Call) -> FunctionCall:
    return FunctionCall(
        id=call_item_id(call["id"]),
        type="function_call",
        status="completed",
        call_id=call["id"],
        name=call["name"],
        arguments=call["arguments"],
    )


def _item_change(call_id: str, shown: JsonObject, _: object) -> ItemChange:
    id = output_item_id(call_id)
    made = FunctionCallOutput(
        id=id, type="function_call_output", status="completed", call_id=call_id, output=shown["output"]
    )
    return ItemChange(id, made, is_new=True)


FUNCTION_CALLS: Final = StepCalls(
    start=lambda name: {"name": name, "arguments": "", "output": None},
    show=_show,
    item=_item,
    item_change=_item_change,
    has_outcome=lambda shown: shown["output"] is not None,
    arguments_delta=lambda arguments: {"arguments": arguments},
    answer=_answer,
)
"""Calls of functions and of actions: name, arguments, output."""

FUNCTION: Final = Kind(_offer, step_calls=FUNCTION_CALLS)
"""Functions of the client."""
