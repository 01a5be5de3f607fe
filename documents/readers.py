"""One reader a kind of file: yields its text in parts. Runs in the child alone (`documents.child`).

The libraries are imported where they are used: each is needed by one kind, and a process reads one file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from documents.kinds import Kind
from documents.refusals import broken, unsupported

__all__ = ["read_parts"]

_SAMPLE: Final = 64 * 1024  # bytes
_STRANGE: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd]")
_MOST_STRANGE: Final = 0.02
_ENCODINGS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def read_parts(kind: Kind, path: Path, max_bytes: int) -> Iterator[str]:
    """Yield the text; between two parts belongs a line end. `max_bytes` is the longest text file that is read.

    Raises Refused, and whatever the libraries do with a broken file.
    """
    match kind:
        case "pdf":
            return _pdf(path)
        case "docx":
            return _docx(path)
        case "pptx":
            return _pptx(path)
        case "sheets":
            return _sheets(path)
        case "html":
            return _html(path, max_bytes)
        case "text":
            return iter((_decode(_bytes(path, max_bytes)),))


def _bytes(path: Path, max_bytes: int) -> bytes:
    size = path.stat().st_size
    if size > max_bytes:
        raise broken(f"The file has {size} bytes of text; at most {max_bytes} are read. Split it.")
    return path.read_bytes()


# --- text -----------------------------------------------------------------------------------------------------------


def _decode(data: bytes) -> str:
    text = _told(data)
    if text is None:
        text = _guessed(data)
    if len(_STRANGE.findall(text[:_SAMPLE])) > _MOST_STRANGE * min(len(text), _SAMPLE):
        raise unsupported("The file is not text.")
    return text


def _told(data: bytes) -> str | None:
    for mark, encoding in _ENCODINGS:
        if data.startswith(mark):
            try:
                return data.decode(encoding).removeprefix("\ufeff")
            except UnicodeDecodeError as error:
                raise broken(f"The file says that it is {encoding}, and is not: {error.reason}.") from error
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes

    matches = from_bytes(data[:_SAMPLE])
    best = matches.best()
    if best is None:
        raise unsupported("The file is not text, or in an encoding that is not known; UTF-8 always is.")
    # Where several fit alike, the commonest of them, not the first by name: cp1250 reads French, with wrong accents.
    alike = {match.encoding for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)}
    return data.decode("cp1252" if "cp1252" in alike else best.encoding, "replace")


def _html(path: Path, max_bytes: int) -> Iterator[str]:
    from inscriptis.html_engine import Inscriptis
    from lxml.html import HTMLParser, document_fromstring

    data = _bytes(path, max_bytes)
    told = _told(data)
    # Without an encoding of ours lxml goes by the document's own `<meta charset>`.
    parser = HTMLParser() if told is None else HTMLParser(encoding="utf-8")
    tree = document_fromstring(data if told is None else told.encode(), parser=parser)
    yield Inscriptis(tree).get_text()


# --- documents ------------------------------------------------------------------------------------------------------


def _pdf(path: Path) -> Iterator[str]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise broken("The PDF is encrypted: upload it without a password.") from error
        raise broken(f"The PDF cannot be read: {error}") from error
    for page in document:
        text = page.get_textpage()
        yield text.get_text_bounded().replace("\r\n", "\n")
        text.close()
        page.close()


def _docx(path: Path) -> Iterator[str]:
    import docx
    from docx.table import Table

    def said(holder: Any) -> Iterator[str]:
        for item in holder.iter_inner_content():
            if isinstance(item, Table):
                yield from _table(item.rows)
            else:
                yield item.text

    document = docx.Document(str(path))
    yield from said(document)
    for section in document.sections:
        for edge in (section.header, section.footer):
            if not edge.is_linked_to_previous:
                yield from said(edge)


def _pptx(path: Path) -> Iterator[str]:
    from pptx import Presentation

    def said(shapes: Any) -> Iterator[str]:
        for shape in shapes:
            if hasattr(shape, "shapes"):
                yield from said(shape.shapes)
            elif shape.has_text_frame:
                yield shape.text_frame.text
            elif getattr(shape, "has_table", False):
                yield from _table(shape.table.rows)

    for slide in Presentation(str(path)).slides:
        yield from said(slide.shapes)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            yield slide.notes_slide.notes_text_frame.text
        yield ""


def _table(rows: Any) -> Iterator[str]:
    for row in rows:
        yield "\t".join(cell.text for cell in row.cells)


def _sheets(path: Path) -> Iterator[str]:
    from python_calamine import CalamineWorkbook

    workbook = CalamineWorkbook.from_path(str(path))
    for name in workbook.sheet_names:
        yield name
        for row in workbook.get_sheet_by_name(name).iter_rows():
            cells = [str(cell) for cell in row]
            if any(cells):
                yield "\t".join(cells).rstrip("\t")
        yield ""
