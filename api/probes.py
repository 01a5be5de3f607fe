"""The paths that monitoring systems request repeatedly: health, readiness and metrics."""

from typing import Final

__all__ = ["PROBES", "is_probe"]

PROBES: Final = frozenset({"/health", "/ready", "/metrics"})


def is_probe(path: str) -> bool:
    """Return whether a path is one of these, with or without `/v1`."""
    return path.removeprefix("/v1") in PROBES
