"""States limits of bytes in errors: what came, how large it is where that is known, the limit, and what to do."""

from dataclasses import dataclass

from wire.errors import TooLarge

__all__ = ["ByteLimit"]


@dataclass(frozen=True, slots=True)
class ByteLimit:
    """A limit of bytes. `what` begins a sentence, such as `The file`. Without `setting`, the limit is fixed."""

    what: str
    most: int
    setting: str = ""
    advice: str = ""

    def message(self, size: int | None = None) -> str:
        """Return the error's sentences. `size` is the number of bytes that came; None if it is unknown."""
        allowed = f"{self.setting} allows" if self.setting else "are allowed"
        if size is None:
            told = f"{self.what} has more than the {self.most} bytes that {allowed}."
        else:
            told = f"{self.what} has {size} bytes, which is more than the {self.most} that {allowed}."
        advice = " or ".join(filter(None, (self.advice, f"raise {self.setting}" if self.setting else "")))
        return f"{told} {advice[:1].upper()}{advice[1:]}." if advice else told

    def refuse(self, size: int | None = None) -> TooLarge:
        """Return the error."""
        return TooLarge(self.message(size))
