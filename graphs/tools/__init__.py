"""The tools that a run can call: their port, and one file for each kind of tool."""

from graphs.tools.lazy_caller import Caller, LazyCaller
from graphs.tools.operations import Operation
from graphs.tools.toolset import ToolSet, build_toolset, make_toolset

__all__ = ["Caller", "LazyCaller", "Operation", "ToolSet", "build_toolset", "make_toolset"]
