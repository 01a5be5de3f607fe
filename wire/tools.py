"""The unions that assistants and runs share: tool, tool_choice, response_format, truncation_strategy.

A type of tool is a `ToolRequest` in `TOOL_TYPES`, which declares where it has secrets. What a server does with it is
its kind in `graphs.tools.kinds`.

Invariants: tools are returned as the client sent them; only PHP's `[]` is replaced where function parameters and
schemas must be objects. `graphs` checks the `data` of actions.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from wire.actions import ACTION_SECRETS
from wire.empty_objects import fill_action, fill_schema
from wire.json import JsonObject, UncheckedJson
from wire.secrets import ToolSecrets
from wire.validation import Request, one_of

__all__ = [
    "TOOL_TYPES",
    "ReasoningEffort",
    "ResponseFormat",
    "Tool",
    "ToolChoice",
    "ToolRequest",
    "TruncationStrategy",
    "echo",
]

Name = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
Schema = Annotated[JsonObject, AfterValidator(fill_schema)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ToolRequest(Request):
    """A tool of an assistant or a run."""

    secrets: ClassVar[ToolSecrets | None] = None
    """Where it has secrets, which answers mask; None if it has none."""


class CodeInterpreterTool(ToolRequest):
    """Accepted and stored; not offered to the model yet."""

    type: Literal["code_interpreter"]


class RankingOptions(Request):
    """How file search ranks."""

    score_threshold: float = Field(ge=0.0, le=1.0)
    ranker: Literal["auto", "default_2024_08_21"] | None = None


class FileSearchOptions(Request):
    """Overrides of file search."""

    max_num_results: int | None = Field(None, ge=1, le=50)
    ranking_options: RankingOptions | None = None


class FileSearchTool(ToolRequest):
    """Passages from the files of the assistant's and the thread's vector stores."""

    type: Literal["file_search"]
    file_search: FileSearchOptions | None = None


class Function(Request):
    """A function that the client executes."""

    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(ToolRequest):
    """A function that the client executes."""

    type: Literal["function"]
    function: Function


class ActionTool(ToolRequest):
    """An API that this server calls: `openapi_spec` and optional `headers`, `auth`, `is_consequential`."""

    is_extension: ClassVar[bool] = True
    secrets: ClassVar[ToolSecrets | None] = ACTION_SECRETS

    type: Literal["action"]
    data: Annotated[JsonObject, AfterValidator(fill_action)]


TOOL_TYPES: Final[Mapping[str, type[ToolRequest]]] = {
    "code_interpreter": CodeInterpreterTool,
    "function": FunctionTool,
    "file_search": FileSearchTool,
    "action": ActionTool,
}
"""By `type`."""

Tool = one_of(**TOOL_TYPES)


class ChosenFunction(Request):
    """The function that must be called."""

    name: str


class FunctionChoice(Request):
    """A function that must be called first."""

    type: Literal["function"]
    function: ChosenFunction


class BuiltInChoice(Request):
    """A tool of OpenAI's own that must be called first."""

    type: Literal["code_interpreter", "file_search"]
    function: None = None


ToolChoice = one_of(
    text_=Literal["none", "auto", "required"],
    function=FunctionChoice,
    code_interpreter=BuiltInChoice,
    file_search=BuiltInChoice,
)


class TextFormat(Request):
    """Plain text."""

    type: Literal["text"]


class JsonObjectFormat(Request):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Request):
    """A named JSON Schema."""

    # `schema` is a method of pydantic's models, so the field has another name here.
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    name: Name
    description: str | None = None
    schema_: Schema | None = Field(None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Request):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = one_of(
    text_=Literal["auto"], text=TextFormat, json_object=JsonObjectFormat, json_schema=JsonSchemaFormat
)


class TruncationStrategy(Request):
    """Which messages of the thread a run reads."""

    type: Literal["auto", "last_messages"]
    last_messages: int | None = Field(None, ge=1)


def echo(value: UncheckedJson) -> UncheckedJson:
    """Return a union's value as the client sent it: a string, or an object without unset fields."""
    return value.model_dump(exclude_unset=True, by_alias=True) if isinstance(value, Request) else value
