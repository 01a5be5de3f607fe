"""Function calls in three modes: native, by JSON Schema, or by prompt. All modes yield the same kinds of chunks."""

from chains.calls.abilities import Abilities, ToolCalls
from chains.calls.modes import Modes, concerns_tools

__all__ = ["Abilities", "Modes", "ToolCalls", "concerns_tools"]
