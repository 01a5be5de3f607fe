"""The HTTP API: one file per resource, and files for access, errors, connections and streams.

Invariant: this package translates and decides nothing. The store's transaction or the runner refuses what a request
must not do; here, the refusal becomes a status and OpenAI's error shape.
"""
