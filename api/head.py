"""A request's headers by name, read once: every look into a list of pairs costs as much as reading all of them."""

from starlette.types import Scope

__all__ = ["head_of"]

_KEY = "threadhold.head"


def head_of(scope: Scope) -> dict[str, str]:
    """Return the headers as they came; of one that came twice the first counts."""
    head: dict[str, str] | None = scope.get(_KEY)
    if head is None:
        pairs = reversed(scope["headers"])
        head = scope[_KEY] = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    return head
