"""Starts a server with one more kind of tool, made only from what a new kind adds: `python directory_server.py`.

A `directory` is a server that lists functions (`GET /functions`), and that is called with their arguments (`POST
/functions/NAME`). Its token is a secret.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

sys.path.insert(0, str(Path(__file__).parent.parent.parent.parent))

from wire import tools as wire_tools
from wire.secrets import Secret, ToolSecrets
from wire.validation import one_of


def _find(tool: dict[str, object]) -> Iterator[Secret]:
    if tool.get("token") is not None:
        yield Secret("token", ("token",), use="token", part=("token",))


class DirectoryTool(wire_tools.ToolRequest):
    """The functions of another server."""

    is_extension: ClassVar[bool] = True
    secrets: ClassVar[ToolSecrets | None] = ToolSecrets(
        _find, identity=lambda tool: tool["label"], address=lambda tool: tool["server_url"]
    )

    type: Literal["directory"]
    label: str
    server_url: str
    token: str | None = None
    require_approval: bool = False


def main() -> None:
    """Register the wire object, as a line in `wire/tools.py` does, and the kind, as one in `graphs/tools/kinds.py`."""
    wire_tools.TOOL_TYPES["directory"] = DirectoryTool  # type: ignore[index]
    wire_tools.Tool = one_of(**wire_tools.TOOL_TYPES)
    from graphs.tools import kinds
    from tests.graphs.tools.directory_kind import DIRECTORY, STEP_CALLS

    kinds.KINDS["directory"] = DIRECTORY  # type: ignore[index]
    kinds.STEP_CALLS["directory"] = STEP_CALLS  # type: ignore[index]
    from server import main as serve

    serve()


if __name__ == "__main__":
    main()
