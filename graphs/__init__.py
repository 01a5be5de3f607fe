"""Runs: the state machine of a run, and the runner that executes it.

Invariant: nodes only emit parts; a run's own task alone writes, the row first and then the event. Reading order:
`machine` (`state`, `nodes`, `build`; `parts` and `deltas` are its output); `record` (parts become rows and events);
`log`, `active_run`, `runner`, `recovery` (executing, following, stopping and resuming a run); `run_runnable` and
`local` (runs as a Runnable, with a server and without).
"""

from graphs.local import RunGraph, build_run_graph

__all__ = ["RunGraph", "build_run_graph"]
