"""Limits on the cost of a task. The kernel enforces them, so they hold for any input."""

from dataclasses import dataclass
from typing import Final

__all__ = ["CHECK", "DOCUMENT", "MAX_REPLY_BYTES", "MEMORY_BYTES", "Budget"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of processor time, after which the kernel ends the child, and seconds of wall time.

    Processor time is the main limit, so that results do not depend on how busy the machine is. Wall time ends tasks
    that wait.
    """

    cpu_s: float
    wall_s: float


CHECK: Final = Budget(cpu_s=2.0, wall_s=10.0)
"""For a schema, a model's arguments or its text."""

DOCUMENT: Final = Budget(cpu_s=10.0, wall_s=40.0)
"""For an OpenAPI document: a large valid one takes seconds."""

MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Maximum address space of a child, including its interpreter and libraries."""

MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""The server decodes replies on its event loop; 8 MB take about 30 ms."""
