"""What a model may do besides speaking: functions of the client's, and API operations that this server carries out."""

from graphs.tools.caller import Caller, LateCaller
from graphs.tools.operations import Operation
from graphs.tools.toolset import ToolSet, build_toolset, make_toolset

__all__ = ["Caller", "LateCaller", "Operation", "ToolSet", "build_toolset", "make_toolset"]
