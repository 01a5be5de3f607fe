"""What a model thinks aloud, told from what it says: `<think>` blocks in a stream of text. Pure.

A block may open where the answer begins or a line does, and its tags may be cut anywhere. Some chat templates put the
opening tag into the prompt: then the answer begins with thoughts, and only `</think>` tells so. What was handed out as
text by then is taken back, once a model: the next answers are known to begin that way.
"""

import re
from typing import Final, NamedTuple

__all__ = ["Heard", "Thoughts"]

_OPEN: Final = re.compile(r"<think(?:ing)?>|\[THINK\]")
_CLOSE: Final = re.compile(r"</think(?:ing)?>|\[/THINK\]")
_TAGS: Final = ("<think>", "<thinking>", "</think>", "</thinking>", "[THINK]", "[/THINK]")
_QUOTES: Final = ("`", "'", '"')
_LONGEST: Final = max(map(len, _TAGS)) - 1
_BLOCK: Final = 4_096
"""Characters that are read at a time, because the rest is copied at each tag."""


class Heard(NamedTuple):
    """Text and thoughts of a piece; `taken`: all text before it was thoughts as well."""

    text: str = ""
    thoughts: str = ""
    taken: bool = False


class Thoughts:
    """One answer's state. `begins`: the model is known to begin with thoughts."""

    def __init__(self, *, begins: bool = False) -> None:
        self._thinking = begins
        self._assumed = begins
        self._fresh = True  # nothing but blank space was said
        self._was_open = begins
        self._line = ""  # what was said last, enough of it to tell whether a line begins
        self._held = ""
        self._blank: list[str] = []  # blank space before anything else
        self._all: list[str] = []  # thoughts that are only assumed to be some

    @property
    def assumed_wrongly(self) -> bool:
        """Whether the answer was to begin with thoughts and never closed them; known at the `end`."""
        return self._assumed and self._thinking

    @property
    def has_spoken(self) -> bool:
        """Whether any text was said, beside blank space, that is not known to be thoughts."""
        return not self._fresh

    def is_plain(self, piece: str) -> bool:
        """Whether a piece is text and nothing else, as nearly every token is; then it is taken in already."""
        if self._thinking or self._fresh or self._held or "<" in piece or "[" in piece:
            return False
        self._line = _line(self._line, piece) if not piece or piece.isspace() else piece
        return True

    def feed(self, piece: str) -> Heard:
        """Take in a piece of the stream; what may be the beginning of a tag is held back for the next one."""
        if self.is_plain(piece):
            return Heard(piece)
        texts: list[str] = []
        thoughts: list[str] = []
        taken = False
        for start in range(0, len(piece), _BLOCK):
            data, self._held = self._held + piece[start : start + _BLOCK], ""
            while data:
                if self._thinking:
                    data = self._think(data, thoughts)
                else:
                    data, takes = self._speak(data, texts)
                    if takes:
                        taken, thoughts, texts = True, [*thoughts, *texts], []
        return Heard("".join(texts), "".join(thoughts), taken)

    def end(self) -> Heard:
        """Return what was held back. Thoughts that were only assumed turn out to be the answer."""
        held, self._held = "".join(self._blank) + self._held, ""
        self._blank.clear()
        if self.assumed_wrongly:
            return Heard("".join(self._all) + held)
        return Heard("", held) if self._thinking else Heard(held)

    def _think(self, data: str, thoughts: list[str]) -> str:
        close = _CLOSE.search(data)
        if close is None:
            data, self._held = _split(data)
            self._note(data, thoughts)
            return ""
        self._note(data[: close.start()], thoughts)
        self._thinking, self._fresh = False, True
        self._all.clear()
        return data[close.end() :]

    def _note(self, thought: str, thoughts: list[str]) -> None:
        if thought:
            thoughts.append(thought)
            if self._assumed:
                self._all.append(thought)

    def _speak(self, data: str, texts: list[str]) -> tuple[str, bool]:
        """Handle data outside of a block; returns the rest, and whether what was said were thoughts."""
        if self._fresh:
            stripped = data.lstrip()
            if not stripped:
                self._blank.append(data)
                return "", False
            # White space between the thoughts and the answer belongs to neither.
            data = stripped if self._was_open else "".join(self._blank) + data
            self._blank.clear()
        mark = self._mark(data)
        if mark is None:
            said, self._held = _split(data)
            if self._fresh and not said.strip():
                self._blank.append(said)
                said = ""
            self._say(said, texts)
            return "", False
        if mark.re is _CLOSE:
            texts.append(data[: mark.start()])
            self._was_open = self._fresh = True
            return data[mark.end() :], True
        before = data[: mark.start()]
        self._say("" if self._fresh and not before.strip() else before, texts)
        self._thinking = self._was_open = True
        self._assumed = False
        return data[mark.end() :], False

    def _say(self, said: str, texts: list[str]) -> None:
        if said:
            texts.append(said)
            self._fresh = self._fresh and not said.strip()
            self._line = _line(self._line, said) if said.isspace() else said

    def _mark(self, data: str) -> "re.Match[str] | None":
        """The first tag that counts: one that opens at a line's start, or a close without an open that is no quote."""
        for found in _OPEN.finditer(data):
            if not (self._line + data[: found.start()]).rpartition("\n")[2].strip():
                return found
        if not self._was_open:
            for found in _CLOSE.finditer(data):
                if not (self._line + data[: found.start()]).endswith(_QUOTES):
                    return found
        return None


def _line(line: str, blank: str) -> str:
    """Return the end of the text so far, enough to detect the start of a line; white space does not accumulate."""
    last = (line + blank).rpartition("\n")[2]
    return last.strip()[-1:] + last[-1:]


def _split(data: str) -> tuple[str, str]:
    """Cut off an end that may be the beginning of a tag."""
    at = max(data.rfind("<", -_LONGEST), data.rfind("[", -_LONGEST))
    if at >= 0 and any(tag.startswith(data[at:]) for tag in _TAGS):
        return data[:at], data[at:]
    return data, ""
