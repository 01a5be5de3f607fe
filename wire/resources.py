"""`tool_resources` of assistants and threads, and the v1 `file_ids` that become part of them."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, with_config
from typing_extensions import TypedDict

from wire.closed import OPEN
from wire.json import JsonObject
from wire.metadata import Metadata
from wire.validation import Id, Request
from wire.vector_stores import MAX_FILES_AT_ONCE, ChunkingStrategy

__all__ = ["InlineStore", "NewToolResources", "Resources", "ToolResources", "attach_files", "resources_body"]


class CodeInterpreterResources(Request):
    """Files of the code interpreter."""

    file_ids: Annotated[list[Id], Field(max_length=20)] | None = None


class FileSearchResources(Request):
    """The vector store that file search reads."""

    vector_store_ids: Annotated[list[Id], Field(max_length=1)] | None = None


class NewVectorStore(Request):
    """A vector store to create together with the assistant or thread."""

    file_ids: Annotated[list[Id], Field(max_length=MAX_FILES_AT_ONCE)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class NewFileSearchResources(FileSearchResources):
    """The vector store that file search reads, or one to create."""

    vector_stores: Annotated[list[NewVectorStore], Field(max_length=1)] | None = None


class ToolResources(Request):
    """Resources by id."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None


class NewToolResources(Request):
    """Resources by id, or a vector store to create."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: NewFileSearchResources | None = None


@with_config(OPEN)
class InlineStore(TypedDict, total=False):
    """A vector store to create together with the assistant or thread; stored objects have none."""

    file_ids: list[str]
    chunking_strategy: JsonObject
    metadata: dict[str, str]


@with_config(OPEN)
class FilesToRun(TypedDict, total=False):
    """Files of the code interpreter."""

    file_ids: list[str]


@with_config(OPEN)
class StoresToSearch(TypedDict, total=False):
    """The vector store that file search reads, or one to create."""

    vector_store_ids: list[str]
    vector_stores: list[InlineStore]


@with_config(OPEN)
class Resources(TypedDict, total=False):
    """`tool_resources` of an object."""

    code_interpreter: FilesToRun
    file_search: StoresToSearch


def resources_body(resources: ToolResources | NewToolResources | None) -> Resources:
    """Return the wire object; {} for None."""
    made: Resources = {} if resources is None else resources.model_dump(exclude_none=True)  # type: ignore[assignment]
    return made


def attach_files(resources: Resources, file_ids: Sequence[str] | None, tools: Sequence[JsonObject]) -> Resources:
    """Add an assistant's v1 `file_ids` to the resources of its tools; without such tools, to the code interpreter's."""
    if file_ids is None:
        return resources
    kinds = {tool["type"] for tool in tools}
    attached = resources.copy()
    if "file_search" in kinds:
        attached["file_search"] = {"vector_stores": [{"file_ids": list(file_ids)}]}
    if "code_interpreter" in kinds or "file_search" not in kinds:
        attached["code_interpreter"] = {"file_ids": list(file_ids)}
    return attached
