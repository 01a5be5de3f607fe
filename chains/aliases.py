"""`MODEL_ALIASES`: names that programs use, and the models that are meant. Pure."""

from collections.abc import Mapping

__all__ = ["Aliases"]


class Aliases:
    """Looks names up. `*` stands for every other name, but not for targets: resolving twice does no harm."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = dict(targets)

    def target(self, name: str) -> str | None:
        """Return what the name stands for, None where it stands for itself."""
        if name in self._targets:
            return self._targets[name]
        return self._targets.get("*") if name not in self._targets.values() else None

    def exact(self, name: str) -> str:
        """Return what the name stands for where it is listed itself, so that `*` does not count; else the name."""
        return self._targets.get(name, name) if name != "*" else name
