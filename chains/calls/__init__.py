"""Function calls in three modes: native, by JSON Schema, or by prompt. All modes yield the same kinds of chunks."""

from chains.calls.capabilities import Capabilities, ToolCalls
from chains.calls.modes import Modes, concerns_tools

__all__ = ["Capabilities", "Modes", "ToolCalls", "concerns_tools"]
