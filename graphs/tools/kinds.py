"""The kinds of tools that this server can offer. A new kind is registered here."""

from collections.abc import Mapping
from typing import Final

from graphs.tools.action import ACTION
from graphs.tools.file_search import FILE_SEARCH, FILE_SEARCH_CALLS
from graphs.tools.function import FUNCTION, FUNCTION_CALLS
from graphs.tools.port import Kind, StepCalls

__all__ = ["KINDS", "STEP_CALLS"]

KINDS: Final[Mapping[str, Kind]] = {"function": FUNCTION, "action": ACTION, "file_search": FILE_SEARCH}
"""By `type` in `tools`. Functions keep their names; later kinds get names that are free."""

STEP_CALLS: Final[Mapping[str, StepCalls]] = {"function": FUNCTION_CALLS, "file_search": FILE_SEARCH_CALLS}
"""By `type` in the calls of a run step."""
