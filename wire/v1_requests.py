"""Converts requests of v1 clients of the Assistants API to v2. Pure. `wire.v1` converts the answers."""

from wire.json import UncheckedJson

__all__ = ["rename_retrieval", "rename_tool"]


def rename_retrieval(data: object) -> object:
    """Return a request with the type `retrieval` of tools and the tool choice renamed to v2's `file_search`."""
    if not isinstance(data, dict):
        return data
    renamed = dict(data)
    if isinstance(data.get("tools"), list):
        renamed["tools"] = [rename_tool(tool, "retrieval", "file_search") for tool in data["tools"]]
    if isinstance(data.get("tool_choice"), dict):
        renamed["tool_choice"] = rename_tool(data["tool_choice"], "retrieval", "file_search")
    return renamed


def rename_tool(tool: UncheckedJson, old: str, new: str) -> UncheckedJson:
    """Return a tool, or a tool choice, with its type `old` renamed to `new`; anything else unchanged."""
    return {**tool, "type": new} if isinstance(tool, dict) and tool.get("type") == old else tool
