"""Counts the levels of nested JSON without recursion, so that the data can be refused before recursive code gets it."""

from wire.json import Json

__all__ = ["nesting"]


def nesting(value: Json, maximum: int) -> int:
    """Return the number of nested levels of objects and arrays; a number above `maximum` if there are more."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        current, level = waiting.pop()
        if isinstance(current, dict | list):
            deepest = max(deepest, level)
            if deepest > maximum:
                return deepest
            inner = current.values() if isinstance(current, dict) else current
            waiting.extend((each, level + 1) for each in inner)
    return deepest
