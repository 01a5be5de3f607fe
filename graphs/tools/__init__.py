"""The tools that a run can call: their port, and one file for each kind of tool."""

from graphs.tools.caller import Caller, LateCaller
from graphs.tools.operations import Operation
from graphs.tools.toolset import ToolSet, build_toolset, make_toolset

__all__ = ["Caller", "LateCaller", "Operation", "ToolSet", "build_toolset", "make_toolset"]
