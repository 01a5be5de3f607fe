"""Collects the text of Open XML parts while they are parsed. No tree is kept, and nesting can have any depth.

An element that arranges text has a frame, which is merged into the enclosing frame when the element ends. `after` holds
texts that are anchored in a paragraph and follow it: text boxes, notes, comments, descriptions of pictures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from documents.package import plain_name, plain_namespace

__all__ = ["CHART", "Frame", "TextTarget", "XmlAttributes", "attribute", "end_row", "is_on"]

XmlAttributes = Mapping[str, str]

_DRAWING: Final = "{drawingml/main}"
CHART: Final = "{drawingml/chart}"
_COMPATIBILITY: Final = "{markup-compatibility}"
_CX: Final = "{http://schemas.microsoft.com/office/drawing/2014/chartex}"
_DGM: Final = "{drawingml/diagram}"
_KNOWN_NAMESPACES: Final = ("drawingml/", "officeDocument/", "wordprocessingml/", "presentationml/")
_MICROSOFT: Final = ("http://schemas.microsoft.com/office/", "urn:schemas-microsoft-com:")


@dataclass(slots=True)
class Frame:
    """The text of one element so far. `cells` are those of a row; `chosen` is the first alternative with text."""

    name: str
    text: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    hidden: bool = False
    id: str = ""
    chosen: "Frame | None" = None

    def put(self, other: "Frame") -> None:
        """Merge another frame's text."""
        self.text += other.text
        self.after += other.after

    def lines(self) -> str:
        """Return the whole text, without leading and trailing line ends."""
        return "\n".join(["".join(self.text).strip("\n"), *self.after]).strip("\n")


def attribute(attributes: XmlAttributes, local: str) -> str | None:
    """Return an attribute by its local name, in any namespace."""
    for name, value in attributes.items():
        if name == local or name.endswith("}" + local):
            return value
    return None


def is_on(attributes: XmlAttributes) -> bool:
    """Return the value of a boolean property, which is true if it has no value."""
    return (attribute(attributes, "val") or "1").lower() not in ("0", "false", "off")


class TextTarget:
    """A parser target for `Package.feed`, for the elements of DrawingML and those common to all of Open XML.

    Subclasses add to the tables. `related` returns the text of the target of a relationship of this part.
    """

    skipped: frozenset[str] = frozenset()
    """Elements whose text is not shown."""
    texts: frozenset[str] = frozenset()
    """Elements whose character data is text, besides DrawingML's."""

    def __init__(self, related: Callable[[str], str]) -> None:
        self._related = related
        self._path: list[str] = []
        self._frames = [Frame("")]
        self._skip = 0
        self._collecting = False
        self._prefixes: dict[str, str] = {}
        self._starts: dict[str, Callable[[XmlAttributes], None]] = {
            f"{_DRAWING}br": lambda _: self._put("\n"),
            f"{_DRAWING}tab": lambda _: self._put("\t"),
            f"{CHART}chart": lambda found: self._append_related(attribute(found, "id")),
            f"{_CX}chart": lambda found: self._append_related(attribute(found, "id")),
            f"{_DGM}relIds": lambda found: self._append_related(attribute(found, "dm")),
        }
        self._ends: dict[str, Callable[[Frame, Frame], None]] = {
            f"{_DRAWING}p": _end_line,
            f"{_DRAWING}tc": _end_cell,
            f"{_DRAWING}tr": end_row,
            f"{CHART}ser": end_row,
            f"{_CX}data": end_row,
            f"{CHART}v": _end_cell,
            f"{_CX}v": _end_cell,
            f"{_CX}pt": _end_cell,
            f"{_COMPATIBILITY}Choice": _end_choice,
            f"{_COMPATIBILITY}Fallback": _end_choice,
            f"{_COMPATIBILITY}AlternateContent": _end_alternatives,
        }
        self._texts = frozenset({f"{_DRAWING}t", f"{CHART}v", f"{_CX}v", f"{_CX}pt", *self.texts})

    # --- called by the parser ----------------------------------------------------------------------------------------

    def start(self, tag: str, attributes: XmlAttributes, namespaces: Mapping[str | None, str] | None = None) -> None:
        """Handle the start of an element."""
        name = plain_name(tag)
        if namespaces:
            self._prefixes |= {prefix or "": uri for prefix, uri in namespaces.items()}
        if self._skip:
            self._skip += 1
            self._note_skipped(name, attributes)
            return
        if self._is_skipped(name, attributes):
            self._skip = 1
            return
        if name in self._ends:
            self._frames.append(Frame(name))
        start_element = self._starts.get(name)
        if start_element is not None:
            start_element(attributes)
        self._path.append(name)
        self._collecting = name in self._texts

    def data(self, text: str) -> None:
        """Handle character data of the innermost element."""
        if self._collecting and not self._skip:
            self._put(text)

    def end(self, _: str) -> None:
        """Handle the end of an element."""
        if self._skip:
            self._skip -= 1
            return
        name = self._path.pop()
        self._collecting = bool(self._path) and self._path[-1] in self._texts
        merge = self._ends.get(name)
        if merge is not None:
            frame = self._frames.pop()
            merge(frame, self._frames[-1])

    def close(self) -> None:
        """Do nothing at the end of the part."""

    @property
    def text(self) -> str:
        """The part's whole text."""
        return self._frames[0].lines()

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def _is_skipped(self, name: str, attributes: XmlAttributes) -> bool:
        if name in self.skipped:
            return True
        if name == f"{_COMPATIBILITY}Choice":
            required = (attribute(attributes, "Requires") or "").split()
            return self._frames[-1].chosen is not None or not all(map(self._understands, required))
        return name == f"{_COMPATIBILITY}Fallback" and self._frames[-1].chosen is not None

    def _note_skipped(self, name: str, attributes: XmlAttributes) -> None:
        """Handle the start of an element within skipped content."""

    def _understands(self, prefix: str) -> bool:
        """Return whether Office supports the namespace of a prefix; undeclared ones are not supported."""
        uri = self._prefixes.get(prefix, "")
        return uri.startswith(_MICROSOFT) or plain_namespace(uri).startswith(_KNOWN_NAMESPACES)

    def _put(self, text: str) -> None:
        self._frames[-1].text.append(text)

    def _append_related(self, id: str | None) -> None:
        """Append the text of a related part after the paragraph."""
        if id:
            self._append_caption(self._related(id))

    def _append_caption(self, text: str | None) -> None:
        """Append a text after the paragraph, unless it is blank."""
        if text and text.strip():
            self._frames[-1].after.append(text.strip())

    def _parent(self) -> str:
        return self._path[-1] if self._path else ""


def _end_line(frame: Frame, parent: Frame) -> None:
    parent.text += ["".join(frame.text), "\n", *(f"{text}\n" for text in frame.after)]


def _end_cell(frame: Frame, parent: Frame) -> None:
    if not frame.hidden:
        parent.cells.append(frame.lines())


def end_row(frame: Frame, parent: Frame) -> None:
    """Join a row's cells with tabs. Only a row of one cell keeps its lines, because it is a layout, not a table."""
    cells = frame.cells
    if frame.hidden:
        return
    if len(cells) > 1:
        cells = [" ".join(cell.split("\n")) for cell in cells]
    parent.text += ["\t".join(cells), "\n", *(f"{text}\n" for text in frame.after)]


def _end_choice(frame: Frame, parent: Frame) -> None:
    if frame.lines().strip():
        parent.chosen = frame


def _end_alternatives(frame: Frame, parent: Frame) -> None:
    if frame.chosen is not None:
        parent.put(frame.chosen)
        parent.cells += frame.chosen.cells
