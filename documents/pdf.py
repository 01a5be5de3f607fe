"""The text of a PDF, page by page. Words that a line end divides are joined; form values and notes are included."""

import ctypes
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from documents.extraction_errors import invalid_file

__all__ = ["join_lines", "read_pdf"]

_BREAK: Final = re.compile("((?:\\w[\\w'\u2019-]*)?\\w)(?:[\x02\ufffe]|[-\u2010]\n|\xad\n?)(?=(\\w+))")
"""The part of a word before a line end, and the word after it. PDFium returns U+0002 or U+FFFE for a hyphen or soft
hyphen followed by a line end."""
_HYPHENATED: Final = re.compile(r"\w+(?:-\w+)+")
_HANGING: Final = frozenset(re.findall(r"\w+", "und oder bzw sowie et ou and or y e o en of og och eller"))
"""Words before which a hyphen replaces the rest of a compound: German "Vor- und Nachteile"."""
_LIGATURES: Final = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_NOTES: Final = ("TEXT", "FREETEXT", "HIGHLIGHT", "UNDERLINE", "SQUIGGLY", "STRIKEOUT", "STAMP", "CARET", "INK")
_PASSWORD: Final = 1 << 13
"""The flag of a form field whose value is not shown."""


def read_pdf(path: Path) -> Iterator[str]:
    """Yield the text of each page, then the values of its form fields and its notes. Raises ExtractionError."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise invalid_file("The PDF is encrypted: upload it without a password.") from error
        raise invalid_file(f"The PDF cannot be read: {error}") from error
    document.init_forms()  # does nothing if there is no form
    hyphenated: set[str] = set()
    for page in document:
        words = page.get_textpage()
        text = words.get_text_range().replace("\r\n", "\n").replace("\r", "\n")
        hyphenated.update(found.lower() for found in _HYPHENATED.findall(text))
        yield "\n".join([join_lines(text, hyphenated), *_annotations(document, page)]).translate(_LIGATURES)
        words.close()
        page.close()


def join_lines(text: str, hyphenated: set[str] | frozenset[str] = frozenset()) -> str:
    """Join words that a hyphen at the end of a line divides.

    A hyphen that belongs to the word stays: in a word that has other hyphens, before a digit or a capital (unless all
    letters are capitals), and in `hyphenated` words, which occur with a hyphen elsewhere in the document. Those are in
    lower case.
    """

    def join(found: re.Match[str]) -> str:
        first, rest = found[1], found[2]
        if found[0].rstrip("\n")[-1] == "\xad":
            return first
        if rest.lower() in _HANGING:
            return f"{first}- "
        alike = rest[0].islower() or (first.isupper() and rest.isupper())
        own = "-" in first or not alike or not first[-1].isalpha()
        return f"{first}-" if own or f"{first}-{rest}".lower() in hyphenated else first

    return _BREAK.sub(join, text)


def _annotations(document: Any, page: object) -> Iterator[str]:  # pypdfium2 has no types
    """Yield a line for each form field with a value, and the text of each note, without duplicates."""
    from pypdfium2 import raw

    notes = {getattr(raw, f"FPDF_ANNOT_{name}") for name in _NOTES}
    seen: set[str] = set()
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            kind, text = raw.FPDFAnnot_GetSubtype(annotation), ""
            if kind == raw.FPDF_ANNOT_WIDGET and document.formenv is not None:
                text = _field(document.formenv, annotation)
            elif kind in notes:
                text = _string(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
        text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
        if text and text not in seen:
            seen.add(text)
            yield text


def _field(form: object, annotation: object) -> str:
    """Return a field's label and value; empty for one without a value, and for buttons and passwords."""
    from pypdfium2 import raw

    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    flags = raw.FPDFAnnot_GetFormFieldFlags(form, annotation)
    if kind in (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON):
        checked = raw.FPDFAnnot_IsChecked(form, annotation)
        value = _string(raw.FPDFAnnot_GetFormFieldExportValue, form, annotation) if checked else ""
    elif kind in (raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX):
        value = ", ".join(_selected(form, annotation)) or _string(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
    elif kind == raw.FPDF_FORMFIELD_TEXTFIELD and not flags & _PASSWORD:
        value = _string(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
    else:
        value = ""
    label = _string(raw.FPDFAnnot_GetFormFieldAlternateName, form, annotation) or _string(
        raw.FPDFAnnot_GetFormFieldName, form, annotation
    )
    return f"{label}: {value}" if label and value else value


def _selected(form: object, annotation: object) -> Iterator[str]:
    from pypdfium2 import raw

    for index in range(raw.FPDFAnnot_GetOptionCount(form, annotation)):
        if raw.FPDFAnnot_IsOptionSelected(form, annotation, index):
            yield _string(raw.FPDFAnnot_GetOptionLabel, form, annotation, index)


def _string(function: Callable[..., int], *arguments: object) -> str:
    """Call a function of PDFium that fills a buffer with UTF-16 and returns its size in bytes."""
    from pypdfium2 import raw

    size = function(*arguments, None, 0)
    buffer = ctypes.create_string_buffer(size)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw.decode("utf-16-le", "replace").rstrip("\0")
