"""What the server provides to the tools of one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphs.tools.caller import Caller
from graphs.tools.file_search import FileSearch

__all__ = ["NO_RESOURCES", "Resources"]


@dataclass(frozen=True, slots=True)
class Resources:
    """A tool that needs a part that is None cannot be called."""

    owner: str = ""
    caller: Caller | None = None
    search: FileSearch | None = None
    vector_store_ids: Sequence[str] = ()
    """The stores that can be searched."""
    passage_chars: Callable[[], int] = lambda: 0
    """Returns how many characters of passages the model's context has space for."""


NO_RESOURCES = Resources()
"""For tools that are only validated."""
