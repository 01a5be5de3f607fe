"""How a type of tool declares its secrets. The declaration stands next to the tool's wire object (`wire.tools`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wire.json import JsonObject

__all__ = ["Secret", "ToolSecrets"]


@dataclass(frozen=True, slots=True)
class Secret:
    """The place of a secret in a tool."""

    name: str
    """What messages call it."""
    path: tuple[str, ...]
    """The keys that lead to its value."""
    use: str
    """How requests contain it. A stored value is restored only where it is used in the same way."""
    part: tuple[str, ...]
    """The keys that lead to what is useless without the secret, and is left out with it; often the path itself."""


@dataclass(frozen=True, slots=True)
class ToolSecrets:
    """The secrets in tools of one type, and to whom they belong."""

    find: Callable[[JsonObject], Iterator[Secret]]
    """Yields the secrets of a tool. The tools of a run from a dump can have any shape."""
    identity: Callable[[JsonObject], object]
    """Returns what stays the same when a client changes a tool: of several stored tools, the one with an equal identity
    has the secrets."""
    address: Callable[[JsonObject], object]
    """Returns what the origins of a tool's requests depend on. While it is equal, they are the same."""
