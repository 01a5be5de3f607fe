"""Cells are read as they are displayed, and text boxes and comments belong to their sheet."""

import datetime
import io
from pathlib import Path

import pytest
from xlsxwriter import Workbook

from documents.kinds import detect_kind
from documents.sheets import cell_text, read_sheets
from tests.documents.packages import Related, package

_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (-3.0, "-3"),
        (0.0, "0"),
        (1234567890123.0, "1234567890123"),
        (1.5, "1.5"),
        (0.1 + 0.2, "0.3"),
        (4111111111111111.0, "4111111111111111"),
        (1e20, "100000000000000000000"),
        (12345678901234567890.0, "12345678901234600000"),
        (1e30, "1e+30"),
        ("PT30H05M00S", "30:05:00"),
        (7, "7"),
        (True, "TRUE"),
        (False, "FALSE"),
        ("", ""),
        ("#DIV/0!", "#DIV/0!"),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (datetime.datetime(2024, 1, 31), "2024-01-31"),
        (datetime.datetime(2024, 1, 31, 13, 45), "2024-01-31 13:45"),
        (datetime.datetime(2024, 1, 31, 13, 45, 7), "2024-01-31 13:45:07"),
        (datetime.datetime(2024, 1, 31, 13, 44, 59, 999_600), "2024-01-31 13:45"),
        (datetime.time(13, 45), "13:45"),
        (datetime.time(13, 45, 7), "13:45:07"),
        (datetime.timedelta(hours=30, minutes=5), "30:05:00"),
    ],
)
def test_a_cell_is_read_as_it_is_displayed(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_a_workbook_is_read_with_its_text_boxes_and_comments(tmp_path: Path) -> None:
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Prices")
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        clock = book.add_format({"num_format": "hh:mm"})
        sheet.write_row(0, 0, ["cat", 2, 1.5, True])
        sheet.write_datetime(1, 0, datetime.datetime(2024, 1, 31), day)
        sheet.write_datetime(1, 1, datetime.time(13, 45), clock)
        sheet.insert_textbox(3, 0, "Boxed")
        sheet.write_comment("A1", "Why?")
        chart = book.add_chart({"type": "column"})
        chart.add_series({"values": "=Prices!$B$1:$C$1", "name": "Growth"})
        sheet.insert_chart(5, 5, chart)
        book.add_worksheet("Empty")
    path = tmp_path / "blob"
    path.write_bytes(out.getvalue())
    lines = "\n".join(read_sheets(path)).split("\n")
    assert lines[:3] == ["Prices", "cat\t2\t1.5\tTRUE", "2024-01-31\t13:45"]
    assert {"Boxed", "Why?"} <= set(lines[3:])
    assert any(line.startswith("Growth") for line in lines)
    assert "Empty" in lines


@pytest.mark.parametrize("strict", [False, True], ids=["transitional", "strict"])
@pytest.mark.parametrize(
    "kind",
    [
        f"{_TYPE}sheet.main+xml",
        f"{_TYPE}template.main+xml",
        "application/vnd.ms-excel.sheet.macroEnabled.main+xml",
        "application/xml",
    ],
)
def test_a_workbook_is_recognized_by_its_content(tmp_path: Path, kind: str, strict: bool) -> None:
    names = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    if strict:
        names = 'xmlns="http://purl.oclc.org/ooxml/spreadsheetml/main"'
    cell = (
        '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>yes</t></is></c><c r="B1"><v>2</v></c></row></sheetData>'
    )
    sheet = Related(
        "xl/worksheets/sheet1.xml", "worksheet", f"<worksheet {names}>{cell}</worksheet>", f"{_TYPE}worksheet+xml"
    )
    book = f'<workbook {names}><sheets><sheet name="One" sheetId="1" r:id="r0"/></sheets></workbook>'
    path = tmp_path / "blob"
    path.write_bytes(package(Related("xl/workbook.xml", "officeDocument", book, kind, [sheet]), strict=strict))
    assert detect_kind(path, ".txt", max_unpacked_bytes=1_000_000) == "sheets"
    assert "\n".join(read_sheets(path)).split() == ["One", "yes", "2"]
