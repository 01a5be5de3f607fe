"""What was learned of models, by their names. Clients choose names, and what they choose must not fill the memory."""

from typing import Final, TypeVar

__all__ = ["MOST_MODELS", "Recent"]

MOST_MODELS: Final = 1000
_LONGEST_NAME: Final = 500

T = TypeVar("T")


class Recent(dict[str, T]):
    """A dict that holds the last names of `MOST_MODELS`, and none that is no name for its length. Set items only."""

    def __setitem__(self, name: str, value: T) -> None:
        """Learn; what was learned longest ago is forgotten for it."""
        if len(name) > _LONGEST_NAME:
            return
        self.pop(name, None)
        super().__setitem__(name, value)
        if len(self) > MOST_MODELS:
            del self[next(iter(self))]
