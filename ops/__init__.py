"""What does an operator do? The command line: one file a command.

The law of the room: a command is told its settings, never looks for them; nothing heavy is imported before a command
has need of it, as `serve` opens its port first; what goes wrong is one sentence on stderr and an exit code.
"""

from ops.commands import run
from ops.parts import Parts

__all__ = ["Parts", "run"]
