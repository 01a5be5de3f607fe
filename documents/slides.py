"""All text of a presentation, slide by slide: shapes, groups, tables, charts, SmartArt, notes and comments.

It reads `.pptx`, `.pptm`, `.potx` and `.ppsx`, transitional and strict; python-pptx does not support all of them.
"""

from collections.abc import Iterator
from typing import Final

from documents.drawing import read_drawing
from documents.markup import Frame, TextTarget, XmlAttributes, attribute
from documents.package import Package, Part, plain_name

__all__ = ["read_slides"]

_P: Final = "{presentationml/main}"
_NOT_SHOWN: Final = ("sldNum", "sldImg", "dt")


def read_slides(package: Package, main: Part) -> Iterator[str]:
    """Yield the text of each slide, then of its notes and comments, then an empty line."""
    for slide in _list_slides(package, main):
        for part in (slide, *package.related(slide, "notesSlide"), *package.related(slide, "comments")):
            target = _SlideText(package, part)
            package.feed(part, target)
            if target.text:
                yield target.text
        yield ""


def _list_slides(package: Package, main: Part) -> list[Part]:
    """Return the slides in presentation order."""
    items = package.tree(main).iter("{*}sldId")
    ids = [id for item in items if plain_name(item.tag) == f"{_P}sldId" and (id := _relationship(item.attrib))]
    return [part for id in ids if (part := package.by_id(main, id)) is not None]


def _relationship(attributes: XmlAttributes) -> str | None:
    return next((value for name, value in attributes.items() if name.startswith("{") and name.endswith("}id")), None)


class _SlideText(TextTarget):
    """Reads one slide, or its notes or comments."""

    texts = frozenset({f"{_P}text"})

    def __init__(self, package: Package, part: Part) -> None:
        def related(id: str) -> str:
            found = package.by_id(part, id)
            return "" if found is None else read_drawing(package, found)

        super().__init__(related)
        self._starts |= {
            f"{_P}cNvPr": self._start_shape,
            f"{_P}ph": self._start_placeholder,
        }
        self._ends |= {
            **{f"{_P}{name}": _end_shape for name in ("sp", "pic", "graphicFrame", "grpSp", "cxnSp")},
            f"{_P}text": _end_comment,
        }

    def _start_shape(self, attributes: XmlAttributes) -> None:
        if (attribute(attributes, "hidden") or "0").lower() in ("1", "true"):
            self._frames[-1].hidden = True
        self._append_caption(attribute(attributes, "descr"))

    def _start_placeholder(self, attributes: XmlAttributes) -> None:
        if attribute(attributes, "type") in _NOT_SHOWN:
            self._frames[-1].hidden = True


def _end_shape(frame: Frame, parent: Frame) -> None:
    if not frame.hidden:
        parent.text += ["".join(frame.text), *(f"{text}\n" for text in frame.after)]


def _end_comment(frame: Frame, parent: Frame) -> None:
    parent.text += ["".join(frame.text), "\n"]
