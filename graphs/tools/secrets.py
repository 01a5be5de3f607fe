"""Restores the secrets of an assistant's tools when a client changes the assistant."""

from collections.abc import Sequence
from contextlib import suppress

from fairness.fair_limits import REQUESTS
from graphs.tools.kinds import KINDS
from graphs.tools.toolset import prepare_tools
from telemetry.context import current_owner
from wire.errors import Problem
from wire.json import JsonObject
from wire.tool_secrets import restore_secrets

__all__ = ["restore_changed"]


async def restore_changed(tools: list[JsonObject], stored: Sequence[JsonObject]) -> list[JsonObject]:
    """Return `tools` with the secrets of the stored ones, where the tools still call the same origins.

    Raises InvalidRequest for a secret that cannot be restored.
    """
    with suppress(Problem):  # `check_tools` reports an invalid tool; a stored one can have become invalid
        await prepare_tools([*stored, *tools])
    return await REQUESTS.run(current_owner(), restore_secrets, tools, list(stored), origins=_origins)


def _origins(tool: JsonObject) -> frozenset[str] | None:
    kind = KINDS.get(tool["type"])
    return None if kind is None or kind.origins is None else kind.origins(tool)
