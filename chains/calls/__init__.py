"""How is a model got to call functions? Natively, by schema, or by prompt: the chunks that come out look alike."""

from chains.calls.abilities import Abilities, ToolCalls
from chains.calls.modes import Modes, concerns_tools

__all__ = ["Abilities", "Modes", "ToolCalls", "concerns_tools"]
