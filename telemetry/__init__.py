"""Log lines and metrics for every package. `api` exports them to the operator's tools.

Invariant: logging and counting are cheap and never block their callers. The content of conversations and secrets stay
out of both.
"""
