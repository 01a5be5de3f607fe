"""Items of a thread: what its runs exchanged with their model besides messages, as in OpenAI's Responses API.

A thread's messages and items have one order. The Assistants API shows the messages only. Ids of items are derived from
the ids of calls and messages, so a reply that is generated again after a crash gets the same ones.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints
from typing_extensions import TypedDict

from wire.errors import InvalidRequest
from wire.ids import derive_id
from wire.json import JsonObject
from wire.validation import MAX_ID, Id, parse

__all__ = [
    "FileSearchCall",
    "FileSearchResult",
    "FunctionCall",
    "FunctionCallOutput",
    "Item",
    "ItemStatus",
    "Reasoning",
    "ReasoningText",
    "call_item_id",
    "item_body",
    "output_item_id",
    "reasoning_item",
    "reasoning_item_id",
    "search_item_id",
]

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class FunctionCall(TypedDict):
    """A call of a function, or of an operation of an action. `arguments` is the JSON that the model wrote."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(TypedDict):
    """The output of a `FunctionCall`, by the client or by the server."""

    id: str
    type: Literal["function_call_output"]
    status: ItemStatus
    call_id: str
    output: str


class FileSearchResult(TypedDict):
    """A passage that a search found."""

    file_id: str
    filename: str
    score: float
    text: str
    attributes: dict[str, str | float | bool]


class FileSearchCall(TypedDict):
    """A search of files. `results` is null until the search has ended."""

    id: str
    type: Literal["file_search_call"]
    status: ItemStatus
    queries: list[str]
    results: list[FileSearchResult] | None


class ReasoningText(TypedDict):
    """A part of a model's reasoning."""

    type: Literal["reasoning_text"]
    text: str


class Reasoning(TypedDict):
    """The reasoning of one reply, before its message and calls."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[ReasoningText]
    content: list[ReasoningText]


Item = FunctionCall | FunctionCallOutput | FileSearchCall | Reasoning


def call_item_id(call_id: str) -> str:
    """Return the id of the item of a function call."""
    return derive_id("fc", call_id)


def output_item_id(call_id: str) -> str:
    """Return the id of the item of a function call's output."""
    return derive_id("fco", call_id)


def search_item_id(call_id: str) -> str:
    """Return the id of the item of a file search."""
    return derive_id("fs", call_id)


def reasoning_item_id(message_id: str) -> str:
    """Return the id of the item of the reasoning of a reply, whose message has or would have this id."""
    return derive_id("rs", message_id)


def reasoning_item(message_id: str, text: str) -> Reasoning:
    """Make the item of the reasoning of a reply; see `reasoning_item_id`."""
    return Reasoning(
        id=reasoning_item_id(message_id),
        type="reasoning",
        status="completed",
        summary=[],
        content=[ReasoningText(type="reasoning_text", text=text)],
    )


# --- items of dumps -----------------------------------------------------------------------------------------------


class _Dumped(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, StringConstraints(max_length=MAX_ID, pattern="^[A-Za-z0-9_-]+$")]
    status: ItemStatus = "completed"


class _FunctionCall(_Dumped):
    call_id: Id
    name: str
    arguments: str


class _FunctionCallOutput(_Dumped):
    call_id: Id
    output: str


class _Result(BaseModel):
    file_id: Id
    filename: str
    score: float
    text: str
    attributes: dict[str, str | float | bool] = {}


class _FileSearchCall(_Dumped):
    queries: list[str]
    results: list[_Result] | None = None


class _ReasoningText(BaseModel):
    type: Literal["reasoning_text"]
    text: str


class _Reasoning(_Dumped):
    content: list[_ReasoningText]


_MODELS: Final[dict[str, type[_Dumped]]] = {
    "function_call": _FunctionCall,
    "function_call_output": _FunctionCallOutput,
    "file_search_call": _FileSearchCall,
    "reasoning": _Reasoning,
}


def item_body(data: JsonObject) -> JsonObject:
    """Make the item that an entry of a dump describes. Raises InvalidRequest."""
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in _MODELS:
        raise InvalidRequest(f"`type` is '{str(kind)[:50]}'; it can be one of {', '.join(_MODELS)}.", param="type")
    made = parse(_MODELS[kind], data).model_dump()
    body = {"id": made.pop("id"), "type": kind, **made}
    return {**body, "summary": []} if kind == "reasoning" else body
