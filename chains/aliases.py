"""`MODEL_ALIASES`: names that programs use, and the models that they stand for. Pure."""

from collections.abc import Mapping

__all__ = ["Aliases"]


class Aliases:
    """Resolves names. `*` matches every other name except targets, so that resolving twice is harmless."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = dict(targets)

    def target(self, name: str) -> str | None:
        """Return the target of a name; None if the name stands for itself."""
        if name in self._targets:
            return self._targets[name]
        return self._targets.get("*") if name not in self._targets.values() else None

    def exact(self, name: str) -> str:
        """Return the target of a name that is listed itself, without `*`; for any other, the name."""
        return self._targets.get(name, name) if name != "*" else name
