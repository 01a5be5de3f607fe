"""All text that Word shows, in reading order: of `.docx`, `.docm`, `.dotx` and `.dotm`, transitional and strict.

This reader exists because no library reads all of it. python-docx and mammoth lose content controls, text boxes, notes
or fields. docx2python fails on documents that Word opens. office-oxide, the closest, loses phonetic guides and blocks
with alternatives, and its wheels require a newer Linux than ours. kreuzberg takes 100 MB and lacks headers and
comments.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from documents.drawing import read_drawing
from documents.markup import CHART, Frame, TextTarget, XmlAttributes, attribute, end_row, is_on
from documents.numbering import Numbering, Styles, read_numbering, read_styles
from documents.package import Package, Part
from documents.symbols import symbol

__all__ = ["read_word"]

_W: Final = "{wordprocessingml/main}"
_M: Final = "{officeDocument/math}"
_V: Final = "{urn:schemas-microsoft-com:vml}"
_NOTES: Final = ("footnotes", "endnotes", "comments")
_NOT_NOTES: Final = ("separator", "continuationSeparator", "continuationNotice")


def read_word(package: Package, part: Part, embedded: Callable[[Package, Part], str]) -> Iterator[str]:
    """Yield the text of headers, body, notes and footers. `embedded` reads a file that the document includes."""
    story = _DocumentState(package, part, embedded)
    seen: set[str] = set()
    for kind, parts in (("header", story.edges("header")), ("body", [part]), ("footer", story.edges("footer"))):
        for found in parts:
            text = story.read(found)
            if kind == "body":
                yield text
                yield from story.left_over()
            elif text and text not in seen:
                seen.add(text)
                yield text


@dataclass(slots=True)
class _Notes:
    """Footnotes, endnotes and comments by kind and id. `referred` are those with a reference, shown or deleted."""

    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    referred: set[tuple[str, str]] = field(default_factory=set)
    endnotes: list[str] = field(default_factory=list)


class _DocumentState:
    """State that the parts of one document share."""

    def __init__(self, package: Package, main: Part, embedded: Callable[[Package, Part], str]) -> None:
        self.package = package
        self.main = main
        self.embedded = embedded
        self.styles = Styles()
        self.numbering = Numbering()
        self.notes = _Notes()
        for part in package.related(main, "styles"):
            self.styles = read_styles(package.tree(part))
        for part in package.related(main, "numbering"):
            self.numbering = read_numbering(package.tree(part))
        for part in package.related(main, *_NOTES):
            package.feed(part, _WordText(self, part))

    def edges(self, kind: str) -> list[Part]:
        """Return the headers or the footers, without duplicates."""
        return list(dict.fromkeys(self.package.related(self.main, kind)))

    def read(self, part: Part) -> str:
        """Return a part's text."""
        target = _WordText(self, part)
        self.package.feed(part, target)
        return target.text

    def left_over(self) -> Iterator[str]:
        """Yield the texts that follow the body: endnotes, then notes without a reference."""
        yield from self.notes.endnotes
        for key, text in self.notes.texts.items():
            if key not in self.notes.referred:
                yield text


class _WordText(TextTarget):
    """Reads one part: the body, a header, or the notes, which it stores in the story instead."""

    skipped = frozenset(
        _W + name
        for name in (
            *("instrText", "delText", "delInstrText", "sdtPr", "sdtEndPr", "tabs", "fldData", "customXmlPr"),
            *("smartTagPr", "pPrChange", "rPrChange", "sectPrChange", "tblPrChange", "tblPrExChange", "tcPrChange"),
            *("trPrChange", "tblGridChange", "numberingChange"),
        )
    )
    texts = frozenset({f"{_W}t", f"{_M}t"})

    def __init__(self, story: _DocumentState, part: Part) -> None:
        super().__init__(lambda id: self._read_related(id))
        self._story = story
        self._part = part
        self._fields: list[bool] = []
        """For each open field: whether its code is being read, and not its result."""
        self._choices: list[str] = []
        self._chosen = 0
        self._checked = False
        self._starts |= {
            f"{_W}{name}": start_element
            for name, start_element in {
                "tab": lambda _: self._put("\t"),
                "ptab": lambda _: self._put("\t"),
                "br": lambda _: self._put("\n"),
                "cr": lambda _: self._put("\n"),
                "noBreakHyphen": lambda _: self._put("-"),
                "sym": self._start_symbol,
                "vanish": self._start_vanish,
                "rStyle": self._start_run_style,
                "pStyle": self._start_paragraph_style,
                "numId": self._start_list,
                "ilvl": self._start_level,
                "del": self._start_deleted_property,
                "moveFrom": self._start_deleted_property,
                "cellDel": self._start_deleted_property,
                "r": self._start_run,
                "fldChar": self._start_field,
                "checked": self._start_checked,
                "default": self._start_checked,
                "result": self._start_result,
                "listEntry": self._start_entry,
                "footnoteReference": lambda found: self._start_reference("footnote", found),
                "endnoteReference": lambda found: self._start_reference("endnote", found),
                "commentReference": lambda found: self._start_reference("comment", found),
                "footnote": self._start_note,
                "endnote": self._start_note,
                "comment": self._start_note,
                "altChunk": self._start_chunk,
            }.items()
        }
        self._starts |= {
            "{drawingml/wordprocessingDrawing}docPr": lambda found: self._append_caption(attribute(found, "descr")),
            f"{_V}shape": lambda found: self._append_caption(attribute(found, "alt")),
            f"{_V}textpath": lambda found: self._append_caption(attribute(found, "string")),
            f"{_M}den": lambda _: self._put("/"),
            f"{_M}sup": lambda _: self._put("^"),
            f"{_M}sub": lambda _: self._put("_"),
            f"{_M}d": lambda _: self._put("("),
        }
        self._ends |= {
            f"{_W}p": self._end_paragraph,
            f"{_W}r": _end_run,
            f"{_W}rt": self._end_reading,
            f"{_W}tc": _end_cell,
            f"{_W}tr": end_row,
            f"{_W}txbxContent": _end_box,
            f"{_W}checkBox": self._end_check_box,
            f"{_W}ddList": self._end_choices,
            f"{_W}footnote": self._end_note,
            f"{_W}endnote": self._end_note,
            f"{_W}comment": self._end_note,
            f"{_M}d": _end_parenthesis,
        }

    # --- visibility --------------------------------------------------------------------------------------------------

    def _is_skipped(self, name: str, attributes: XmlAttributes) -> bool:
        if name in (f"{_W}del", f"{_W}moveFrom"):
            return not self._parent().endswith("Pr")  # in properties, it means that the paragraph or row is deleted
        return super()._is_skipped(name, attributes)

    def _note_skipped(self, name: str, attributes: XmlAttributes) -> None:
        if name.startswith(_W) and name.endswith("Reference"):
            kind = name.removeprefix(_W).removesuffix("Reference")
            self._story.notes.referred.add((kind, attribute(attributes, "id") or ""))

    def _put(self, text: str) -> None:
        if not any(self._fields):
            super()._put(text)

    def _start_deleted_property(self, _: XmlAttributes) -> None:
        # A row or cell is deleted; a paragraph whose mark is deleted is joined with the next.
        if self._parent() in (f"{_W}trPr", f"{_W}tcPr"):
            self._frames[-1].hidden = True
        elif self._path[-2:] == [f"{_W}pPr", f"{_W}rPr"]:
            self._frames[-1].id = "joined"

    def _start_run(self, _: XmlAttributes) -> None:
        paragraph = next((frame for frame in reversed(self._frames) if frame.name == f"{_W}p"), None)
        self._frames[-1].hidden = paragraph is not None and paragraph.hidden

    def _start_run_style(self, attributes: XmlAttributes) -> None:
        if self._frames[-1].name == f"{_W}r" and attribute(attributes, "val") in self._story.styles.hidden:
            self._frames[-1].hidden = True

    def _start_vanish(self, attributes: XmlAttributes) -> None:
        if self._path[-2:] == [f"{_W}r", f"{_W}rPr"]:
            self._frames[-1].hidden = is_on(attributes)

    # --- paragraphs --------------------------------------------------------------------------------------------------

    def _start_paragraph_style(self, attributes: XmlAttributes) -> None:
        id = attribute(attributes, "val") or ""
        self._frames[-1].hidden = id in self._story.styles.hidden
        self._list, self._level = self._story.styles.numbered.get(id, (None, None))

    _list: str | None = None
    _level: int | None = None

    def _start_list(self, attributes: XmlAttributes) -> None:
        if self._path[-2:] == [f"{_W}pPr", f"{_W}numPr"]:
            self._list = attribute(attributes, "val")

    def _start_level(self, attributes: XmlAttributes) -> None:
        level = attribute(attributes, "val") or ""
        if self._path[-2:] == [f"{_W}pPr", f"{_W}numPr"] and level.isdigit():
            self._level = int(level)

    def _end_paragraph(self, frame: Frame, parent: Frame) -> None:
        self._fields = [False] * len(self._fields)  # a code ends with its paragraph, or an open one would hide the rest
        text = "".join(frame.text)
        if frame.cells:  # a phonetic guide follows the text, so that words stay whole
            text = f"{text} ({' '.join(frame.cells)})"
        parent.text += [text, "" if frame.id == "joined" else "\n", *(f"{after}\n" for after in frame.after)]

    def end(self, tag: str) -> None:
        """Handle the end of an element; a paragraph's number is known at the end of its properties."""
        numbered = not self._skip and self._path[-1:] == [f"{_W}pPr"] and self._list is not None
        if numbered and self._list is not None:
            label = self._story.numbering.label(self._list, self._level or 0)
            if label:
                self._put(f"{label} ")
        if not self._skip and self._path[-1:] == [f"{_W}pPr"]:
            self._list = self._level = None
        super().end(tag)

    def _end_reading(self, frame: Frame, parent: Frame) -> None:
        paragraph = next((found for found in reversed(self._frames) if found.name == f"{_W}p"), parent)
        paragraph.cells.append("".join(frame.text))

    def _start_symbol(self, attributes: XmlAttributes) -> None:
        try:
            code = int(attribute(attributes, "char") or "0", 16)
        except ValueError:
            return
        self._put(symbol(attribute(attributes, "font") or "", code))

    # --- fields ------------------------------------------------------------------------------------------------------

    def _start_field(self, attributes: XmlAttributes) -> None:
        match attribute(attributes, "fldCharType"):
            case "begin":
                self._fields.append(True)
            case "separate" if self._fields:
                self._fields[-1] = False
            case "end" if self._fields:
                self._fields.pop()

    def _start_checked(self, attributes: XmlAttributes) -> None:
        if self._parent() == f"{_W}checkBox":
            self._checked = is_on(attributes)
        elif self._parent() == f"{_W}ddList":
            self._start_result(attributes)

    def _start_result(self, attributes: XmlAttributes) -> None:
        index = attribute(attributes, "val") or ""
        self._chosen = int(index) if index.isdigit() else 0

    def _start_entry(self, attributes: XmlAttributes) -> None:
        self._choices.append(attribute(attributes, "val") or "")

    def _end_check_box(self, _: Frame, parent: Frame) -> None:
        parent.text.append("☒" if self._checked else "☐")
        self._checked = False

    def _end_choices(self, _: Frame, parent: Frame) -> None:
        if self._chosen < len(self._choices):
            parent.text.append(self._choices[self._chosen])
        self._choices, self._chosen = [], 0

    # --- notes and embedded parts ------------------------------------------------------------------------------------

    def _start_reference(self, kind: str, attributes: XmlAttributes) -> None:
        notes, key = self._story.notes, (kind, attribute(attributes, "id") or "")
        text = notes.texts.get(key)
        if text is None or key in notes.referred:
            return
        notes.referred.add(key)
        if kind == "endnote":
            notes.endnotes.append(text)
        else:
            self._append_caption(text)

    def _start_note(self, attributes: XmlAttributes) -> None:
        frame = self._frames[-1]
        frame.id = attribute(attributes, "id") or ""
        frame.hidden = attribute(attributes, "type") in _NOT_NOTES
        author = attribute(attributes, "author")
        if author:
            frame.text.append(f"{author}: ")

    def _end_note(self, frame: Frame, _: Frame) -> None:
        text = frame.lines()
        if text.strip() and not frame.hidden:
            self._story.notes.texts[frame.name.removeprefix(_W), frame.id] = text

    def _start_chunk(self, attributes: XmlAttributes) -> None:
        text = self._read_related(attribute(attributes, "id") or "")
        if text.strip():
            self._put(f"{text.strip()}\n")

    def _read_related(self, id: str) -> str:
        part = self._story.package.by_id(self._part, id)
        if part is None:
            return ""
        if self._parent().startswith((CHART, "{drawingml/")):
            return read_drawing(self._story.package, part)
        return self._story.embedded(self._story.package, part)


def _end_run(frame: Frame, parent: Frame) -> None:
    if not frame.hidden:
        parent.put(frame)


def _end_cell(frame: Frame, parent: Frame) -> None:
    if not frame.hidden:
        parent.cells.append(frame.lines())


def _end_box(frame: Frame, parent: Frame) -> None:
    text = frame.lines()
    if text.strip():
        parent.after.append(text)


def _end_parenthesis(frame: Frame, parent: Frame) -> None:
    parent.put(frame)
    parent.text.append(")")
