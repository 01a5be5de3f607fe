"""Names of the functions that a model is offered."""

import re

__all__ = ["free_name"]


def free_name(name: str, taken: set[str]) -> str:
    """Return a valid name like `name` that is not `taken`, and add it to `taken`."""
    name = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]", "_", name)).strip("_")[:64] or "call"
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name[: 64 - len(str(count)) - 1]}_{count}"
    taken.add(candidate)
    return candidate
