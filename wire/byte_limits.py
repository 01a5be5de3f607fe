"""Describes exceeded byte limits: what exceeds the limit, its size if known, the limit, and what to do."""

from dataclasses import dataclass

from wire.errors import TooLarge

__all__ = ["ByteLimit"]


@dataclass(frozen=True, slots=True)
class ByteLimit:
    """A limit in bytes. `what` begins a sentence, such as `The file`. Without `setting`, the limit is fixed."""

    what: str
    maximum: int
    setting: str = ""
    advice: str = ""

    def message(self, size: int | None = None) -> str:
        """Return the error message. `size` is the number of bytes that arrived; None if it is unknown."""
        allowed = f"{self.setting} allows" if self.setting else "are allowed"
        if size is None:
            message = f"{self.what} has more than the {self.maximum} bytes that {allowed}."
        else:
            message = f"{self.what} has {size} bytes, which is more than the {self.maximum} that {allowed}."
        advice = " or ".join(filter(None, (self.advice, f"raise {self.setting}" if self.setting else "")))
        return f"{message} {advice[:1].upper()}{advice[1:]}." if advice else message

    def refuse(self, size: int | None = None) -> TooLarge:
        """Return the error."""
        return TooLarge(self.message(size))
