"""The numbers of Word's lists and headings, which the document describes but does not contain. Bullets are omitted."""

import re
from dataclasses import dataclass, field
from typing import Final

from documents.markup import attribute, is_on
from documents.package import Element, plain_name

__all__ = ["Numbering", "Styles", "read_numbering", "read_styles"]

_W: Final = "{wordprocessingml/main}"
_ROMAN: Final = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x")),
    *((9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_DEEPEST: Final = 9
_MAX_ROMAN: Final = 4000


@dataclass(frozen=True, slots=True)
class Styles:
    """Ids of styles of hidden text; list id and level of numbered styles by style id, None if not given."""

    hidden: frozenset[str] = frozenset()
    numbered: dict[str, tuple[str | None, int | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Level:
    start: int
    format: str
    text: str


@dataclass(slots=True)
class Numbering:
    """Counts the numbered paragraphs of a document, in document order."""

    lists: dict[str, dict[int, _Level]] = field(default_factory=dict)
    """The levels of each list, by the list's id (`w:num`)."""
    shared: dict[str, str] = field(default_factory=dict)
    """The definition whose counters a list continues, by the list's id."""
    counters: dict[str, dict[int, int]] = field(default_factory=dict)

    def label(self, id: str, level: int) -> str:
        """Count a paragraph, and return its number as Word shows it; empty for bullets and unknown lists."""
        levels = self.lists.get(id)
        if levels is None or level not in levels:
            return ""
        counters = self.counters.setdefault(self.shared.get(id, id), {})
        counters[level] = counters.get(level, levels[level].start - 1) + 1
        for deeper in [counted for counted in counters if counted > level]:
            del counters[deeper]
        if levels[level].format in ("bullet", "none"):
            return ""

        def number(match: re.Match[str]) -> str:
            other = int(match[1]) - 1
            shown = levels.get(other, _Level(1, "decimal", ""))
            return _format(counters.get(other, shown.start), shown.format)

        return re.sub(r"%([1-9])", number, levels[level].text)


def _format(count: int, kind: str) -> str:
    if kind in ("lowerRoman", "upperRoman") and 0 < count < _MAX_ROMAN:
        text = ""
        for value, letters in _ROMAN:
            text += letters * (count // value)
            count %= value
        return text if kind == "lowerRoman" else text.upper()
    if kind in ("lowerLetter", "upperLetter") and count > 0:
        text = chr(ord("a") + (count - 1) % 26) * min((count - 1) // 26 + 1, _DEEPEST)
        return text if kind == "lowerLetter" else text.upper()
    return f"{count:02}" if kind == "decimalZero" else str(count)


def read_numbering(root: Element) -> Numbering:
    """Parse the part `numbering`."""
    definitions: dict[str, dict[int, _Level]] = {}
    found = Numbering()
    for item in _children(root, "abstractNum"):
        definitions[attribute(item.attrib, "abstractNumId") or ""] = _levels(item)
    for item in _children(root, "num"):
        id, definition = attribute(item.attrib, "numId") or "", _value(item, "abstractNumId") or ""
        levels = dict(definitions.get(definition, {}))
        found.shared[id] = definition
        for override in _children(item, "lvlOverride"):
            found.shared[id] = f"{definition}/{id}"  # the list restarts its numbers
            levels |= _overridden(override, levels)
        found.lists[id] = levels
    return found


def _overridden(override: Element, levels: dict[int, _Level]) -> dict[int, _Level]:
    changed = _levels(override)
    level, start = _number(attribute(override.attrib, "ilvl")), _value(override, "startOverride")
    if start is not None and level in levels and level not in changed:
        changed[level] = _Level(_number(start), levels[level].format, levels[level].text)
    return changed


def _levels(item: Element) -> dict[int, _Level]:
    return {
        _number(attribute(level.attrib, "ilvl")): _Level(
            _number(_value(level, "start") or "1"),
            _value(level, "numFmt") or "decimal",
            _value(level, "lvlText") or "",
        )
        for level in _children(item, "lvl")
    }


def read_styles(root: Element) -> Styles:
    """Parse the part `styles`; a style inherits from the style that it is based on."""
    own: dict[str, Element] = {attribute(item.attrib, "styleId") or "": item for item in _children(root, "style")}
    hidden: set[str] = set()
    numbered: dict[str, tuple[str | None, int | None]] = {}
    for id in own:
        chain = _chain(own, id)
        vanish = next((found for item in chain for found in _descend(item, "rPr", "vanish")), None)
        if vanish is not None and is_on(vanish.attrib):
            hidden.add(id)
        list_id = next((_value(found, "numId") for item in chain for found in _descend(item, "pPr", "numPr")), None)
        level = next((_value(found, "ilvl") for item in chain for found in _descend(item, "pPr", "numPr")), None)
        if list_id is not None or level is not None:
            numbered[id] = (list_id, None if level is None else _number(level))
    return Styles(frozenset(hidden), numbered)


def _chain(own: dict[str, Element], id: str) -> list[Element]:
    chain: list[Element] = []
    while id in own and own[id] not in chain and len(chain) < _DEEPEST:
        chain.append(own[id])
        id = _value(own[id], "basedOn") or ""
    return chain


def _descend(item: Element, *names: str) -> list[Element]:
    found = [item]
    for name in names:
        found = [child for parent in found for child in _children(parent, name)]
    return found


def _children(item: Element, name: str) -> list[Element]:
    return [child for child in item if isinstance(child.tag, str) and plain_name(child.tag) == _W + name]


def _value(item: Element, name: str) -> str | None:
    for child in _children(item, name):
        return attribute(child.attrib, "val")
    return None


def _number(text: str | None) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else 0
