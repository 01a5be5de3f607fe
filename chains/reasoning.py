"""Separates a model's reasoning from its text: `<think>` blocks in a stream. Pure.

A block can open at the start of the answer or of a line, and its tags can be split anywhere. Some chat templates put
the opening tag into the prompt. The answer then starts with reasoning, which is recognised only at `</think>`, and the
text yielded until then is retracted. This happens once per model: its later answers are expected to start with
reasoning.
"""

import re
from typing import Final, NamedTuple

__all__ = ["ReasoningParser", "Split"]

_OPEN: Final = re.compile(r"<think(?:ing)?>|\[THINK\]")
_CLOSE: Final = re.compile(r"</think(?:ing)?>|\[/THINK\]")
_TAGS: Final = ("<think>", "<thinking>", "</think>", "</thinking>", "[THINK]", "[/THINK]")
_QUOTES: Final = ("`", "'", '"')
_MAX_PARTIAL_TAG: Final = max(map(len, _TAGS)) - 1
_BLOCK: Final = 4_096
"""Characters that are read at a time: the rest is copied at each tag."""


class Split(NamedTuple):
    """Text and reasoning of a piece; `reclassified` means that all text before it was reasoning as well."""

    text: str = ""
    reasoning: str = ""
    reclassified: bool = False


class ReasoningParser:
    """Parses one streamed answer. `begins` means that the model is known to begin with reasoning."""

    def __init__(self, *, begins: bool = False) -> None:
        self._thinking = begins
        self._assumed = begins
        self._fresh = True  # the text so far is only white space
        self._was_open = begins
        self._line = ""  # the end of the text so far, enough to detect the start of a line
        self._held = ""
        self._blank: list[str] = []  # white space before any other text
        self._assumed_reasoning: list[str] = []  # an answer that is only assumed to begin with reasoning

    @property
    def has_unclosed_reasoning(self) -> bool:
        """Whether the answer was assumed to start with reasoning but never closed it; known at the `end`."""
        return self._assumed and self._thinking

    @property
    def has_text(self) -> bool:
        """Whether there was any text, apart from white space, that is not known to be reasoning."""
        return not self._fresh

    def is_plain(self, piece: str) -> bool:
        """Return whether a piece is only text, as nearly every token is; if so, the piece is already processed."""
        if self._thinking or self._fresh or self._held or "<" in piece or "[" in piece:
            return False
        self._line = _line(self._line, piece) if not piece or piece.isspace() else piece
        return True

    def feed(self, piece: str) -> Split:
        """Process a piece of the stream; a possible start of a tag is held back until the next piece."""
        if self.is_plain(piece):
            return Split(piece)
        texts: list[str] = []
        reasoning: list[str] = []
        reclassified = False
        for start in range(0, len(piece), _BLOCK):
            data, self._held = self._held + piece[start : start + _BLOCK], ""
            while data:
                if self._thinking:
                    data = self._read_reasoning(data, reasoning)
                else:
                    data, is_reclassified = self._read_text(data, texts)
                    if is_reclassified:
                        reclassified, reasoning, texts = True, [*reasoning, *texts], []
        return Split("".join(texts), "".join(reasoning), reclassified)

    def end(self) -> Split:
        """Return what was held back. A wrong assumption of reasoning is reverted: all of it becomes text."""
        held, self._held = "".join(self._blank) + self._held, ""
        self._blank.clear()
        if self.has_unclosed_reasoning:
            return Split("".join(self._assumed_reasoning) + held)
        return Split("", held) if self._thinking else Split(held)

    def _read_reasoning(self, data: str, reasoning: list[str]) -> str:
        close = _CLOSE.search(data)
        if close is None:
            data, self._held = _split(data)
            self._add_reasoning(data, reasoning)
            return ""
        self._add_reasoning(data[: close.start()], reasoning)
        self._thinking, self._fresh = False, True
        self._assumed_reasoning.clear()
        return data[close.end() :]

    def _add_reasoning(self, text: str, reasoning: list[str]) -> None:
        if text:
            reasoning.append(text)
            if self._assumed:
                self._assumed_reasoning.append(text)

    def _read_text(self, data: str, texts: list[str]) -> tuple[str, bool]:
        """Handle data outside a block; return the rest, and whether the text so far was reasoning."""
        if self._fresh:
            stripped = data.lstrip()
            if not stripped:
                self._blank.append(data)
                return "", False
            # White space between the reasoning and the answer belongs to neither.
            data = stripped if self._was_open else "".join(self._blank) + data
            self._blank.clear()
        mark = self._mark(data)
        if mark is None:
            text, self._held = _split(data)
            if self._fresh and not text.strip():
                self._blank.append(text)
                text = ""
            self._add_text(text, texts)
            return "", False
        if mark.re is _CLOSE:
            texts.append(data[: mark.start()])
            self._was_open = self._fresh = True
            return data[mark.end() :], True
        before = data[: mark.start()]
        self._add_text("" if self._fresh and not before.strip() else before, texts)
        self._thinking = self._was_open = True
        self._assumed = False
        return data[mark.end() :], False

    def _add_text(self, text: str, texts: list[str]) -> None:
        if text:
            texts.append(text)
            self._fresh = self._fresh and not text.strip()
            self._line = _line(self._line, text) if text.isspace() else text

    def _mark(self, data: str) -> "re.Match[str] | None":
        """Return the first effective tag: an opening tag at the start of a line, or an unquoted closing tag without an
        opening one."""
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
    """Split off an end that may be the start of a tag."""
    at = max(data.rfind("<", -_MAX_PARTIAL_TAG), data.rfind("[", -_MAX_PARTIAL_TAG))
    if at >= 0 and any(tag.startswith(data[at:]) for tag in _TAGS):
        return data[:at], data[at:]
    return data, ""
