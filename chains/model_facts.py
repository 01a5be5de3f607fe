"""Facts learned about models, by model name. Clients choose the names, so their number and length are limited."""

from collections import OrderedDict
from typing import Final, Generic, TypeVar, overload

from telemetry.context import current_owner

__all__ = ["MAX_MODELS", "ModelFacts", "RecentModels"]

MAX_MODELS: Final = 1000
_MAX_NAME: Final = 500

T = TypeVar("T")


class RecentModels(dict[str, T]):
    """A dict that holds the latest `MAX_MODELS` names, and none that are too long. Add items only by assignment."""

    def __setitem__(self, name: str, value: T) -> None:
        """Add a name; drop the oldest one if there are too many."""
        if len(name) > _MAX_NAME:
            return
        self.pop(name, None)
        super().__setitem__(name, value)
        if len(self) > MAX_MODELS:
            del self[next(iter(self))]


class ModelFacts(Generic[T]):
    """Facts learned about models from the responses to one owner, for this owner's requests only.

    Responses depend on the request, and errors quote it: what one owner writes must not affect another. Each owner has
    at most `MAX_MODELS` names. The same number of owners is kept: those with the most recent facts.
    """

    def __init__(self) -> None:
        self._owners: OrderedDict[str, RecentModels[T]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of the current owner's names."""
        return len(self._owners.get(current_owner(), ()))

    def __contains__(self, name: str) -> bool:
        """Return whether anything is known about this model."""
        return name in self._owners.get(current_owner(), ())

    def __getitem__(self, name: str) -> T:
        """Return what is known about this model. Raises KeyError."""
        return self._owners[current_owner()][name]

    def __setitem__(self, name: str, value: T) -> None:
        """Store a fact for the current owner."""
        owner = current_owner()
        self._owners.setdefault(owner, RecentModels())[name] = value
        self._owners.move_to_end(owner)
        if len(self._owners) > MAX_MODELS:
            self._owners.popitem(last=False)

    @overload
    def get(self, name: str) -> T | None: ...

    @overload
    def get(self, name: str, default: T) -> T: ...

    def get(self, name: str, default: T | None = None) -> T | None:
        """Return what is known, or the default."""
        known = self._owners.get(current_owner())
        return default if known is None else known.get(name, default)

    def forget(self, name: str) -> None:
        """Remove what is known about a model."""
        if (known := self._owners.get(current_owner())) is not None:
            known.pop(name, None)
