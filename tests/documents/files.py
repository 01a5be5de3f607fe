"""Makes files of every kind, valid and invalid."""

import io
import zipfile
from collections.abc import Sequence

import docx
import pptx
from xlsxwriter import Workbook

__all__ = ["docx_file", "pdf_file", "pptx_file", "xlsx_file", "zip_bomb", "zip_file"]


def pdf_file(*pages: str, encrypt: bool = False) -> bytes:
    """Return a PDF with one line per page; `encrypt` protects it with an unknown password."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    if encrypt:
        key = "00" * 32
        objects.append(f"<< /Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4 >>")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{index:010} 00000 n \n" for index in places)
    locked = f" /Encrypt {len(objects)} 0 R /ID [<00> <00>]" if encrypt else ""
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R{locked} >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def docx_file(*paragraphs: str, table: Sequence[Sequence[str]] = ()) -> bytes:
    """Return a Word document: paragraphs, then a table, then "The end."."""
    document = docx.Document()
    for text in paragraphs:
        document.add_paragraph(text)
    if table:
        made = document.add_table(len(table), len(table[0]))
        for row, cells in zip(made.rows, table, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    document.add_paragraph("The end.")
    return _saved(document)


def pptx_file(title: str, notes: str) -> bytes:
    """Return a presentation of one slide."""
    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[5])
    assert slide.shapes.title is not None
    slide.shapes.title.text = title
    assert slide.notes_slide.notes_text_frame is not None
    slide.notes_slide.notes_text_frame.text = notes
    return _saved(made)


def xlsx_file(rows: Sequence[Sequence[object]], sheet: str = "Prices") -> bytes:
    """Return a workbook of one sheet."""
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        made = book.add_worksheet(sheet)
        for number, cells in enumerate(rows):
            made.write_row(number, 0, cells)
    return out.getvalue()


def zip_file(**entries: bytes) -> bytes:
    """Return an archive; `__` in a name is a slash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def zip_bomb(unpacked_bytes: int) -> bytes:
    """Return a small Word document with a part that unpacks to this many zeros."""
    out = io.BytesIO(docx_file("x"))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("word/bomb.xml", "w") as part:
        block = bytes(1024 * 1024)
        for _ in range(unpacked_bytes // len(block)):
            part.write(block)
    return out.getvalue()


def _saved(made: object) -> bytes:
    out = io.BytesIO()
    made.save(out)  # type: ignore[attr-defined]
    return out.getvalue()
