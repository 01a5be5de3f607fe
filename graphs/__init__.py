"""What is a run? Its status table, its state machine, and the runner that executes it.

The law of the room: nodes only speak; the runner alone writes, row first, then event. Reading order for a newcomer:
`status`, `state`, `nodes`, `build` (the machine); `parts`, `deltas`, `record` (what it says and what becomes of it);
`log`, `live`, `runner`, `recovery` (how it is executed, watched, stopped and taken up again); `facade`, `local` (runs
as a Runnable, with a server and without).
"""

from graphs.local import RunGraph, build_run_graph

__all__ = ["RunGraph", "build_run_graph"]
