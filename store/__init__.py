"""Persistence: the ports (`ports`), the choice of a backend (`backend`), and one folder per backend.

Importing this package, or the ports, imports no backend. Invariants: a commit takes effect as a whole or not at all.
What an answer confirms is on disk. A change that must not happen (wrong owner, busy thread, wrong status) is refused
inside the transaction, never by a check before it.
"""
