"""Finds how a server's text names a field that it refuses, whatever the field's name. Pure.

A mark replaces the field's name in the searched text, so that no pattern is compiled per name: untrusted clients can
send thousands of names.
"""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["FieldMention"]

_MARK: Final = "\0"
_MAX_OCCURRENCES: Final = 20
"""Maximum occurrences of one name that are examined."""

_QUOTES: Final = "`'\"\u2018\u2019\u201c\u201d\u00ab\u00bb"  # quotation marks of several languages
_QUOTE: Final = rf"[{_QUOTES}\[(]{{0,2}}"
_NAME: Final = rf"{_QUOTE}{_MARK}[{_QUOTES}\])]{{0,2}}"
_NOT_LATIN: Final = r"[\u0370-\u1dff\u2e80-\ud7ff\uf900-\ufaff\uff66-\uffdc]"  # Greek, Cyrillic, Arabic, Han, Hangul …
_NOUN: Final = (
    r"(?:argument|parameter|param|field|property|key|name|option|attribute|input|setting|member|value)"
    r"(?:s|ies|\(s\))?"
)
# "Unrecognized request argument supplied: X", 'Unknown name "X"' …
_BEFORE: Final = (
    r"(?:unrecogni[sz]ed|unknown|unexpected|unsupported|invalid|extra|additional|extraneous|forbidden|illegal"
    r"|not (?:supported|allowed|permitted))"
    r"(?: (?:request|query|body|json|keyword|generation|sampling|top-level|inference))*"
    rf"(?: {_NOUN})?(?: (?:supplied|provided|given|found|in (?:the )?(?:request|body)|named))*\s*[:=]?\s*"
)
# "does not support X", "remove the parameter X" …
_ASKED: Final = (
    r"(?:(?:not|n't|no longer|never) (?:currently |yet )?(?:support|accept|allow|recogni[sz]e|know|implement|permit"
    r"|handle|understand|take|use|set|send|include|specify|contain)\w*|\bcannot (?:use|set|specify|combine|pass)"
    r"|\b(?:remove|omit|unset|drop|without))"
    rf"(?: (?:the|this|a|any|for|setting|use of|using|custom|request|{_NOUN}))*\s*:?\s*"
)
# "X is not supported", "X: Extra inputs are not permitted", "property 'X' is unsupported" …
_AFTER: Final = (
    r"[^.;\n]{0,60}?\b(?:not (?:\w+ )?(?:support|allow|permit|recogni|accept|available|implement|valid|known|expected"
    r"|enabled|used|specified|compatible|defined|found)|cannot|can't|unsupported|unrecogni[sz]ed|unexpected|unknown"
    r"|forbidden|disallowed|deprecated|invalid|only\b|must\b|should\b|no such|extra (?:inputs?|fields?)|n't support)"
)
_OTHERS: Final = rf"(?:{_QUOTE}[\w.$]+{_QUOTE}(?:,| and| or) ?){{0,8}}"
_REFUSED: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (rf"\b{_BEFORE}{_OTHERS}{_NAME}", rf"{_ASKED}{_OTHERS}{_NAME}", rf"{_NAME}{_AFTER}")
)
_SPECIAL: Final = (re.compile(_NAME),)
_BARE: Final = tuple(
    re.compile(pattern)
    for pattern in (rf"[{_QUOTES}]\s?{_MARK}\s?[{_QUOTES}]", rf"{_NOT_LATIN}\s?{_MARK}", rf"{_MARK}\s?{_NOT_LATIN}")
)
_OFFERED: Final = re.compile(
    rf"\b(?:use|try|set|send|specify|provide)\b {_QUOTE}{_MARK}[^.]{{0,20}}\binstead\b", re.IGNORECASE
)
_WANTED: Final = re.compile(
    rf"{_NAME}[^.;]{{0,60}}?\b(?:must (?:also )?be (?:passed|provided|present|included|sent|specified)"
    r"|is (?:required|missing|mandatory)|field required)"
    rf"|\b(?:missing|lacks?|requires?)(?: (?:a|the|an|required|{_NOUN}))*\s*:?\s*{_NAME}",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"(?:request|body|json|params|parameters|\$)\.\Z", re.IGNORECASE)
_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class FieldMention:
    """A text and the occurrences of one name: `masked` has a mark for each, `starts` has their positions."""

    name: str
    masked: str
    starts: tuple[int, ...]

    @classmethod
    def find(cls, name: str, text: str, lowered: str) -> "FieldMention | None":
        """Return the occurrences of a name as a separate word; None if there are none.

        `lowered` is `FieldMention.fold(text)`; a lower-case name is found in any case.
        """
        searched = lowered if name.islower() else text
        if not name or name not in searched:
            return None
        starts: list[int] = []
        parts: list[str] = []
        done = at = 0
        while len(starts) < _MAX_OCCURRENCES and (at := searched.find(name, at)) >= 0:
            end = at + len(name)
            prefix = _PREFIX.search(text, max(0, at - 12), at)
            start = prefix.start() if prefix else at
            if not (_continues(text, start - 1, "$.") or _continues(text, end)):
                parts += (text[done:start], _MARK)
                starts.append(at)
                done = end
            at = end
        if not starts:
            return None
        return cls(name, "".join([*parts, text[done:]]), tuple(starts))

    @staticmethod
    def fold(text: str) -> str:
        """Return the text in lower case, with every character at the same position."""
        return text.translate(_LOWER)

    @property
    def is_offered(self) -> bool:
        """Whether the text only suggests using the field."""
        rest, count = _OFFERED.subn("", self.masked)
        return count > 0 and _MARK not in rest

    @property
    def is_wanted(self) -> bool:
        """Whether the text asks for the field instead of refusing it."""
        return _WANTED.search(self.masked) is not None

    def refused_at(self) -> list[int]:
        """Return the positions at which the text refuses the field in a known wording."""
        return self._found(_REFUSED)

    def named_at(self) -> list[int]:
        """Return the positions at which the text names the field, in any language.

        `stream_options` is not a word in any language. `temperature` is one, and is a field's name only if it is quoted
        or next to another script.
        """
        return self._found(_SPECIAL if "_" in self.name or self.name.startswith("$") else _BARE)

    def _found(self, patterns: tuple[re.Pattern[str], ...]) -> list[int]:
        found: list[int] = []
        for pattern in patterns:
            for match in pattern.finditer(self.masked):
                number = self.masked.count(_MARK, 0, match.start())
                found.append(self.starts[number])
        return found


def _continues(text: str, at: int, more: str = "") -> bool:
    return 0 <= at < len(text) and (text[at] in _WORD or text[at] in more)
