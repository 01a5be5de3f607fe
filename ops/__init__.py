"""The command line for operators: one file per command.

Invariants: a command receives its settings and never reads them itself. Expensive modules are imported only when a
command needs them, because `serve` opens its port first. A failure is one sentence on stderr and an exit code.
"""

from ops.commands import run
from ops.factories import Factories

__all__ = ["Factories", "run"]
