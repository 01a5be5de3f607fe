"""Estimates the work of a regular expression in a grammar: how many of its positions are open at the same time. Pure.

llama.cpp expands every repetition and, for every candidate token, follows all positions that the text so far allows.
Until the first part of variable length ends, the text determines which position is open. After it, any later position
can be open at the same time. A token takes 0.1 s with 50 open positions, and over a second with 500.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from chains.schema_limits import MAX_REPEATS

__all__ = ["PatternRefused", "PatternWeight", "pattern_weight"]

_MAX_CHARS: Final = 1_000
_MAX_DEPTH: Final = 16
_MAX_EXPANDED: Final = 20_000


class PatternRefused(ValueError):
    """The pattern has no bounded grammar. The message gives the reason, as the end of a sentence."""


class PatternWeight(NamedTuple):
    """The work of a pattern: `open` positions at most at once, of `size` positions after its expansion."""

    open: int
    size: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a pattern. `size` counts its expanded positions, `open` those that can be open at once.
    `length` is the number of characters that it always matches, None if that varies."""

    size: int = 0
    open: int = 1
    length: int | None = 0
    empty: bool = True


def pattern_weight(pattern: str) -> PatternWeight:
    """Weigh a pattern, in time linear in its length. Raises PatternRefused."""
    if len(pattern) > _MAX_CHARS:
        raise PatternRefused(f"has {len(pattern)} characters; at most {_MAX_CHARS} are allowed")
    reader = _Reader(pattern)
    part = reader.alternatives(0)
    if reader.at < len(pattern):
        raise PatternRefused("has a `)` without a `(`")
    return PatternWeight(part.open, part.size)


class _Reader:
    """Parses one pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def alternatives(self, depth: int) -> _Part:
        if depth > _MAX_DEPTH:
            raise PatternRefused(f"nests groups more than {_MAX_DEPTH} levels deep")
        branches = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            branches.append(self._sequence(depth))
        if len(branches) == 1:
            return branches[0]
        lengths = {branch.length for branch in branches}
        return _checked(
            _Part(
                size=sum(branch.size for branch in branches),
                open=sum(branch.open for branch in branches),
                length=lengths.pop() if len(lengths) == 1 else None,
                empty=any(branch.empty for branch in branches),
            )
        )

    def _sequence(self, depth: int) -> _Part:
        whole = _Part()
        while self._peek() not in ("", "|", ")"):
            part = self._repeated(self._atom(depth))
            # After a part of variable length, the text no longer determines which position it has reached.
            more = part.open if whole.length is not None else whole.open + part.size
            length = None if whole.length is None or part.length is None else whole.length + part.length
            whole = _checked(
                _Part(whole.size + part.size, max(whole.open, more), length, empty=whole.empty and part.empty)
            )
        return whole

    def _atom(self, depth: int) -> _Part:
        char = self._peek()
        self.at += 1
        if char in "^$":
            return _Part()
        if char == "(":
            if self._pattern.startswith("?", self.at):
                if not self._pattern.startswith("?:", self.at):
                    raise PatternRefused("uses `(?…`, which grammars do not support; only `(?:` is allowed")
                self.at += 2
            part = self.alternatives(depth + 1)
            if self._peek() != ")":
                raise PatternRefused("has a `(` without a `)`")
            self.at += 1
            return part
        if char == "[":
            self._skip_class()
        elif char == "\\":
            if not self._peek():
                raise PatternRefused("ends with a `\\`")
            self.at += 1
        elif char in "*+?{":
            raise PatternRefused(f"has a `{char}` with nothing to repeat")
        return _Part(1, 1, 1, empty=False)

    def _skip_class(self) -> None:
        while (char := self._peek()) != "]":
            if not char:
                raise PatternRefused("has a `[` without a `]`")
            self.at += 2 if char == "\\" else 1
        self.at += 1

    def _repeated(self, part: _Part) -> _Part:
        while (bounds := self._bounds()) is not None:
            minimum, maximum = bounds
            if part.empty and (maximum is None or maximum > 1):
                raise PatternRefused("repeats an expression that can be empty")
            times = max(minimum, 1) if maximum is None else maximum
            varies = part.length is None
            size = part.size * max(times, 1) + (part.size if maximum is None and minimum > 1 else 0)
            part = _checked(
                _Part(
                    size=size,
                    # If the length of the body varies, the text can have reached any of its repetitions.
                    open=(size if varies and times > 1 else part.open) + 1,
                    length=part.length * minimum if minimum == maximum and part.length is not None else None,
                    empty=part.empty or minimum == 0,
                )
            )
        return part

    def _bounds(self) -> tuple[int, int | None] | None:
        """Read a quantifier: least and most, None for no limit. None if there is no quantifier."""
        char = self._peek()
        if char == "" or char not in "*+?{":
            return None
        self.at += 1
        if char != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        end = self._pattern.find("}", self.at)
        inner = self._pattern[self.at : end] if end >= 0 else ""
        low, comma, high = inner.partition(",")
        if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in (low or "0", high or "0") if part):
            raise PatternRefused("has a `{` that is not a quantifier")
        if not inner or inner == ",":
            raise PatternRefused("has a `{` that is not a quantifier")
        self.at = end + 1
        minimum = int(low or 0)
        maximum = (int(high) if high else None) if comma else minimum
        if max(minimum, maximum or 0) > MAX_REPEATS:
            raise PatternRefused(f"repeats {max(minimum, maximum or 0)} times; at most {MAX_REPEATS} are allowed")
        if maximum is not None and maximum < minimum:
            raise PatternRefused("has a repetition whose maximum is below its minimum")
        return minimum, maximum

    def _peek(self) -> str:
        return self._pattern[self.at : self.at + 1]


def _checked(part: _Part) -> _Part:
    if part.size > _MAX_EXPANDED:
        raise PatternRefused(f"expands to more than {_MAX_EXPANDED} positions")
    return part
