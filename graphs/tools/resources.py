"""What kinds of tools use besides the calls: resources that they keep open, and what belongs to one run.

A kind that needs a client, a pool or a process declares a `Resource` in its file. Every process that executes runs (a
server, a graph of the library) opens the resources of all kinds with `graphs.tools.kinds.open_resources`, and closes
them when it stops.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from chains.embeddings import Embedder
from chains.prompts import DEFAULT_PROMPTS, Prompts
from store.ports import Store, Vectors

__all__ = ["VALIDATION", "Resource", "Resources", "ToolContext", "ToolDeps", "WaitForIndex"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

WaitForIndex = Callable[[Sequence[str], float], Awaitable[bool]]
"""Waits at most so many seconds until no file of these stores is being indexed. Returns whether that is so."""


@dataclass(frozen=True, slots=True)
class ToolDeps:
    """What a process provides to the resources of its tools."""

    store: Store
    vectors: Vectors | None = None
    """None: this process does not index files."""
    embedder: Embedder | None = None
    wait_for_index: WaitForIndex | None = None
    prompts: Prompts = DEFAULT_PROMPTS
    options: Sequence[object] = ()
    """Settings of kinds: at most one object of each kind's own class, such as `ActionOptions`."""

    def option(self, kind: type[T]) -> T:
        """Return the options of this class; by default, what the class returns without arguments."""
        return next((each for each in self.options if isinstance(each, kind)), None) or kind()


@dataclass(frozen=True, slots=True)
class Resource(Generic[T_co]):
    """A client or another object that a kind of tool keeps open while the process executes runs."""

    open: Callable[[ToolDeps], AbstractAsyncContextManager[T_co | None]]
    """Opens and closes the object, and owns its tasks. The object is None if the process lacks what it needs: the kind
    is then not offered."""


class Resources:
    """The open resources of a process."""

    def __init__(self, opened: Mapping[Resource[object], object] | None = None) -> None:
        self._opened = opened or {}

    def get(self, resource: Resource[T]) -> T | None:
        """Return the object of a resource; None if this process does not have it."""
        return cast("T | None", self._opened.get(resource))


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What the tools of one run get."""

    owner: str = ""
    resources: Resources | None = None
    """None: the tools are only validated, and must not be called."""
    vector_store_ids: Sequence[str] = ()
    """The stores that can be searched."""
    passage_chars: Callable[[], int] = lambda: 0
    """Returns how many characters of passages the model's context has space for."""

    def get(self, resource: Resource[T]) -> T | None:
        """Return the object of a resource; None if there is none, or if the tools are only validated."""
        return None if self.resources is None else self.resources.get(resource)


VALIDATION: Final = ToolContext()
"""For tools that are only validated."""
