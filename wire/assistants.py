"""Assistants: the requests to create and modify them, the object, and how it is made from a request."""

from typing import Annotated, Final, Literal, NotRequired

from pydantic import Field, StringConstraints, model_validator, with_config
from typing_extensions import TypedDict

from wire.closed import CLOSED
from wire.field_markers import FieldMarker
from wire.json import JsonObject
from wire.metadata import Metadata
from wire.model_options import (
    UNSET_SAMPLING,
    CommonOptions,
    ReasoningOptions,
    ReasoningShown,
    SamplingShown,
    apply_reasoning,
    apply_sampling,
)
from wire.resources import NewToolResources, Resources, ToolResources, attach_files, resources_body
from wire.tools import Tool, echo
from wire.v1_requests import rename_retrieval
from wire.validation import Id, Request

__all__ = ["Assistant", "AssistantCreate", "AssistantModify", "assistant_changes", "new_assistant"]

Instructions = Annotated[str, StringConstraints(max_length=256_000)]
FileIds = Annotated[list[Id], Field(max_length=20)]
MAX_MODEL_NAME: Final = 256
ModelName = Annotated[str, StringConstraints(max_length=MAX_MODEL_NAME)]
Name = Annotated[str, StringConstraints(max_length=256)]
Description = Annotated[str, StringConstraints(max_length=512)]


# Pydantic takes the fields of the last base first. Of several errors, the one of the first field is reported.


class _Described(Request):
    name: Name | None = None
    description: Description | None = None
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    metadata: Metadata | None = None


class _AssistantFields(ReasoningOptions, CommonOptions, _Described):
    file_ids: FileIds | None = Field(
        None, description="v1; becomes part of `tool_resources`", json_schema_extra={"deprecated": True}
    )

    @model_validator(mode="before")
    @classmethod
    def _from_v1(cls, data: object) -> object:
        return rename_retrieval(data)


class AssistantCreate(_AssistantFields):
    """POST /assistants."""

    model: ModelName
    tool_resources: NewToolResources | None = None


class AssistantModify(_AssistantFields):
    """POST /assistants/{assistant_id}: only the given fields change; metadata is replaced as a whole."""

    model: ModelName | None = None
    tool_resources: ToolResources | None = None


class _DescribedObject(TypedDict):
    id: str
    object: Literal["assistant"]
    created_at: int
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: list[JsonObject]
    tool_resources: Annotated[Resources, FieldMarker.ADDED_IN_V2]
    metadata: dict[str, str]


class _FormattedObject(_DescribedObject, SamplingShown):
    response_format: Annotated[str | JsonObject, FieldMarker.ADDED_IN_V2]


@with_config(CLOSED)
class Assistant(_FormattedObject, ReasoningShown):
    """The object `assistant`."""

    file_ids: NotRequired[
        Annotated[list[str], FieldMarker.V1_ONLY, Field(description="only under `OpenAI-Beta: assistants=v1`")]
    ]


def new_assistant(request: AssistantCreate, *, id: str, now: int) -> Assistant:
    """Make the wire object; `now` in Unix seconds."""
    tools = [echo(tool) for tool in request.tools or ()]
    resources = resources_body(request.tool_resources)
    file_ids = request.file_ids or None if resources else request.file_ids  # a v1 object that is sent back has both
    return {
        "id": id,
        "object": "assistant",
        "created_at": now,
        "name": request.name,
        "description": request.description,
        "model": request.model,
        "instructions": request.instructions,
        "tools": tools,
        "tool_resources": attach_files(resources, file_ids, tools),
        "metadata": request.metadata or {},
        **apply_sampling(request),
        "response_format": "auto" if request.response_format is None else echo(request.response_format),
        **apply_reasoning(request),  # type: ignore[typeddict-item]  # mypy: it could have optional fields as well
    }


def assistant_changes(request: AssistantModify, body: Assistant) -> JsonObject:
    """Return the keys of `body` that the request changes, with their new values."""
    changes: JsonObject = {}
    for name in request.model_fields_set - {"file_ids", "tool_resources", "tools", "model"}:
        value = getattr(request, name)
        changes[name] = _DEFAULTS.get(name) if value is None else echo(value)
    if request.model is not None:
        changes["model"] = request.model
    if request.tools is not None:
        changes["tools"] = [echo(tool) for tool in request.tools]
    if "tool_resources" in request.model_fields_set:
        changes["tool_resources"] = resources_body(request.tool_resources)
    if request.file_ids is not None:
        resources = changes.get("tool_resources", body["tool_resources"])
        tools = changes.get("tools", body["tools"])
        changes["tool_resources"] = attach_files(resources, request.file_ids, tools)
    return changes


_DEFAULTS: Final[JsonObject] = {"metadata": {}, **UNSET_SAMPLING, "response_format": "auto"}
