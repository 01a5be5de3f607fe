"""`tool_resources` of assistants and threads, and the v1 `file_ids` that become part of them."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from wire.metadata import Metadata
from wire.validation import Id, Request
from wire.vector_stores import ChunkingStrategy

__all__ = ["NewToolResources", "ToolResources", "attach_files", "resources_body"]


class CodeInterpreterResources(Request):
    """Files of the code interpreter."""

    file_ids: Annotated[list[Id], Field(max_length=20)] | None = None


class FileSearchResources(Request):
    """The vector store that file search reads."""

    vector_store_ids: Annotated[list[Id], Field(max_length=1)] | None = None


class NewVectorStore(Request):
    """A vector store to create together with the assistant or thread."""

    file_ids: Annotated[list[Id], Field(max_length=10_000)] | None = None
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


def resources_body(resources: ToolResources | NewToolResources | None) -> dict[str, Any]:
    """Return the wire object; {} for None."""
    return {} if resources is None else resources.model_dump(exclude_none=True)


def attach_files(
    resources: dict[str, Any], file_ids: Sequence[str] | None, tools: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Add an assistant's v1 `file_ids` to the resources of its tools; without such tools, to the code interpreter's."""
    if file_ids is None:
        return resources
    kinds = {tool["type"] for tool in tools}
    attached = dict(resources)
    if "file_search" in kinds:
        attached["file_search"] = {"vector_stores": [{"file_ids": list(file_ids)}]}
    if "code_interpreter" in kinds or "file_search" not in kinds:
        attached["code_interpreter"] = {"file_ids": list(file_ids)}
    return attached
