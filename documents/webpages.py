"""The text of an HTML page: its title and description, then the text that a browser shows or reads aloud.

The parser reports elements one by one, so that nesting can have any depth. The tree for inscriptis, which does the
layout, is kept shallow.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lxml import etree

__all__ = ["read_page"]

_SKIPPED: Final = frozenset({"script", "style", "datalist", "iframe", "annotation", "annotation-xml"})
_DEEPEST: Final = 100
"""Maximum depth of elements in the tree; deeper ones only break lines."""
_BLOCKS: Final = frozenset(
    (
        *("section", "form", "fieldset", "legend", "details", "summary", "dialog", "dl", "dt", "dd", "option"),
        *(
            "optgroup",
            "template",
            "noscript",
            "center",
            "search",
            "menu",
            "caption",
            "frameset",
            "noframes",
            "select",
            "head",
        ),
    )
)
"""Elements that begin a line but that inscriptis does not support."""
_KNOWN_BLOCKS: Final = _BLOCKS | {"div", "p", "li", "tr", "td", "br", "table", "ul", "ol", "h1", "h2", "h3", "article"}
_HIDDEN_INPUTS: Final = ("hidden", "password", "checkbox", "radio", "file", "color", "range")
_EMPTY_LINES: Final = re.compile(r"\n(?:[ \t]*\n){2,}")
_REFERENCES: Final = {
    code: bytes([code]).decode("cp1252") for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
"""References such as `&#146;` are codes in windows-1252, as in browsers."""
_SPACES: Final = re.compile(r"\s+")
_BLOCK: Final = 64 * 1024


def read_page(html: str) -> str:
    """Return the text of a page."""
    from inscriptis.html_engine import Inscriptis

    page = _Page()
    parser = etree.HTMLParser(target=page, huge_tree=True, encoding="utf-8")
    data = html.encode("utf-8", "replace")
    for start in range(0, len(data), _BLOCK):
        parser.feed(data[start : start + _BLOCK])
    tree = parser.close()
    body = _EMPTY_LINES.sub("\n\n", Inscriptis(tree).get_text())
    return "\n".join([*page.heads, body]).translate(_REFERENCES)


@dataclass(slots=True)
class _Open:
    """An open element: its name in the tree, if it is there, and the label to use if the element has no text."""

    shown: str | None
    label: str | None


class _Page:
    """A parser target that builds a shallow tree. `heads` are the title and the description."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self._builder = etree.TreeBuilder()
        self._builder.start("div", {})
        self._open: list[_Open] = []
        self._labels = 0
        self._skip = 0
        self._titled = False
        self._title: list[str] | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the start of an element."""
        if tag == "title" and not self._titled:
            self._title = []
        elif tag == "meta":
            self._describe(attributes)
        if self._skip or _is_skipped(tag, attributes):
            self._skip += 1
            return
        self._open.append(_Open(self._show(tag), attributes.get("aria-label")))
        self._labels += 1 if attributes.get("aria-label") else 0
        text = _replacement(tag, attributes)
        if text and text.strip():
            self.data(f" {text.strip()} ")

    def data(self, text: str) -> None:
        """Handle text of the innermost element."""
        if self._title is not None:
            self._title.append(text)
        elif not self._skip:
            self._builder.data(text)
            if self._labels and text.strip():
                self._forget_labels()

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        if tag == "title" and self._title is not None:
            self._add_head("".join(self._title))
            self._title, self._titled = None, True
        if self._skip:
            self._skip -= 1
        elif self._open:
            self._end_innermost()

    def close(self) -> object:
        """Return the tree at the end of the page."""
        while self._open:
            self._end_innermost()
        self._builder.end("div")
        return self._builder.close()

    def _show(self, tag: str) -> str | None:
        name = "pre" if tag == "textarea" else "div" if tag in _BLOCKS else tag
        if len(self._open) < _DEEPEST:
            self._builder.start(name, {})
            return name
        if tag in _KNOWN_BLOCKS:
            self._builder.start("br", {})
            self._builder.end("br")
        return None

    def _end_innermost(self) -> None:
        element = self._open.pop()
        if element.label:
            self._labels -= 1
            self.data(f" {element.label} ")
        if element.shown is not None:
            self._builder.end(element.shown)

    def _forget_labels(self) -> None:
        for element in self._open:
            element.label = None
        self._labels = 0

    def _describe(self, attributes: Mapping[str, str]) -> None:
        name = attributes.get("name", attributes.get("property", "")).lower()
        if name in ("description", "og:description"):
            self._add_head(attributes.get("content", ""))

    def _add_head(self, text: str) -> None:
        text = " ".join(text.split())
        if text and text not in self.heads:
            self.heads.append(text)


def _is_skipped(tag: str, attributes: Mapping[str, str]) -> bool:
    style = _SPACES.sub("", attributes.get("style", "")).lower()
    return tag in _SKIPPED or "hidden" in attributes or "display:none" in style or "visibility:hidden" in style


def _replacement(tag: str, attributes: Mapping[str, str]) -> str | None:
    """Return the text of an attribute that replaces the element's missing content."""
    if tag in ("img", "area"):
        return attributes.get("alt")
    if tag == "input" and attributes.get("type", "text").lower() not in _HIDDEN_INPUTS:
        return attributes.get("value") or attributes.get("alt")
    return attributes.get("label") if tag in ("option", "optgroup") else None
