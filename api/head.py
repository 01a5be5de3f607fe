"""A request's headers by name, parsed once: a lookup in a list of pairs would cost as much as parsing all of them."""

from starlette.types import Scope

__all__ = ["head_of"]

_KEY = "threadhold.head"


def head_of(scope: Scope) -> dict[str, str]:
    """Return the headers, decoded as Latin-1; of a repeated header, the first value."""
    head: dict[str, str] | None = scope.get(_KEY)
    if head is None:
        pairs = reversed(scope["headers"])
        head = scope[_KEY] = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    return head
