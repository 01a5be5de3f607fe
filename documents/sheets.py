"""The text of a spreadsheet: each sheet's rows, with values as people write them, then its text boxes and comments."""

import datetime
import re
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

from documents.drawing import read_drawing
from documents.markup import Frame, TextTarget
from documents.package import Package, Part, plain_name

__all__ = ["cell_text", "read_sheets"]

_S: Final = "{spreadsheetml/main}"
_THREADED: Final = "{http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments}"
_DIGITS: Final = 15
"""Significant digits that Excel keeps of a number."""
_EXACT: Final = 2.0**53
"""Up to this, floating point represents every whole number: card and account numbers keep all their digits."""
_MAX_WHOLE: Final = 1e21
_DURATION: Final = re.compile(r"(-?)PT(\d+)H(\d+)M(\d+)(?:[.,]\d+)?S")
"""A duration of a day or more in OpenDocument, which the library returns as a string."""


def read_sheets(path: Path) -> Iterator[str]:
    """Yield the name of each sheet, its rows with tabs between cells, then its text boxes and comments."""
    from python_calamine import CalamineWorkbook

    workbook = CalamineWorkbook.from_path(str(path))
    extras = _read_extras(path)
    for name in workbook.sheet_names:
        yield name
        for row in workbook.get_sheet_by_name(name).iter_rows():
            cells = [cell_text(cell) for cell in row]
            if any(cells):
                yield "\t".join(cells).rstrip("\t")
        yield from extras.get(name, ())
        yield ""


def cell_text(value: object) -> str:
    """Return a cell's value as people write it: 2 rather than 2.0, ISO dates, TRUE and FALSE."""
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return _number_text(value)
        case datetime.datetime():
            return _date_text(value)
        case datetime.time():
            return _time_text(value)
        case datetime.timedelta():
            return _duration_text(value)
        case str() if found := _DURATION.fullmatch(value):
            return f"{found[1]}{int(found[2])}:{int(found[3]):02}:{int(found[4]):02}"
        case _:
            return str(value)


def _number_text(value: float) -> str:
    if value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    text = f"{value:.{_DIGITS}g}"
    return f"{Decimal(text):f}" if value.is_integer() and abs(value) < _MAX_WHOLE else text


def _date_text(value: datetime.datetime) -> str:
    # Excel stores dates as floating point numbers of days: fractions of a second are rounding errors.
    value = (value + datetime.timedelta(microseconds=500_000)).replace(microsecond=0)
    if value.time() == datetime.time():
        return value.date().isoformat()
    return f"{value.date().isoformat()} {_time_text(value.time())}"


def _time_text(value: datetime.time) -> str:
    return value.strftime("%H:%M:%S" if value.second else "%H:%M")


def _duration_text(value: datetime.timedelta) -> str:
    seconds = round(value.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


# --- drawings and comments ------------------------------------------------------------------------------------------


class _CommentText(TextTarget):
    """Reads the comments of a sheet, both classic and threaded."""

    texts = frozenset({f"{_S}t", f"{_THREADED}text"})
    skipped = frozenset({f"{_S}authors", f"{_S}rPh"})

    def __init__(self) -> None:
        super().__init__(lambda _: "")
        self._ends |= {f"{_S}comment": _end_comment, f"{_THREADED}threadedComment": _end_comment}


def _end_comment(frame: Frame, parent: Frame) -> None:
    parent.text += ["".join(frame.text), "\n"]


def _read_extras(path: Path) -> dict[str, list[str]]:
    """Return the texts of drawings, charts and comments by the sheet's name; empty for other formats than Open XML."""
    if not zipfile.is_zipfile(path):
        return {}
    with Package(path) as package:
        main = package.main()
        if main is None or main.name.endswith(".bin"):
            return {}
        sheets = [item for item in package.tree(main).iter("{*}sheet") if plain_name(item.tag) == f"{_S}sheet"]
        return {
            sheet.attrib.get("name", ""): list(_sheet_extras(package, part))
            for sheet in sheets
            for name, id in sheet.attrib.items()
            if name.startswith("{") and name.endswith("}id") and (part := package.by_id(main, id)) is not None
        }


def _sheet_extras(package: Package, sheet: Part) -> Iterator[str]:
    for drawing in package.related(sheet, "drawing"):
        yield read_drawing(package, drawing)
    threaded = list(package.related(sheet, "threadedComment"))
    for comments in threaded or package.related(sheet, "comments"):  # classic ones then only say to update Excel
        target = _CommentText()
        package.feed(comments, target)
        yield target.text
