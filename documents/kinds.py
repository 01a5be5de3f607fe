"""What kind of file is it? By its first bytes; its name decides only among kinds of text, and tells old Excel."""

import zipfile
from pathlib import Path
from typing import Final, Literal

from documents.refusals import broken, unsupported

__all__ = ["Kind", "tell_kind"]

Kind = Literal["pdf", "docx", "pptx", "sheets", "html", "text"]

_HEAD: Final = 4096  # bytes
_OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_PARTS: Final[dict[str, Kind]] = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "sheets",
    "xl/workbook.bin": "sheets",
}
_HTML: Final = (".html", ".htm", ".xhtml")


def tell_kind(path: Path, suffix: str, *, max_unpacked_bytes: int) -> Kind:
    """Return the kind; `suffix` is that of the file's name, lower case. Raises Refused."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise broken("The file is empty.")
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _in_zip(path, max_unpacked_bytes)
    if head.startswith(_OLE):
        return _in_ole(path, suffix)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if suffix in _HTML or start.startswith((b"<!doctype html", b"<html")):
        return "html"
    return "text"


def _in_zip(path: Path, max_unpacked_bytes: int) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            mimetype = archive.read("mimetype")[:100] if "mimetype" in archive.namelist()[:1] else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise broken(f"The file is a broken archive: {error}.") from error
    size = sum(entry.file_size for entry in entries)
    if size > max_unpacked_bytes:
        raise broken(f"The file unpacks to {size} bytes; at most {max_unpacked_bytes} are read.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise broken("The file is encrypted: upload it without a password.")
    names = {entry.filename for entry in entries}
    for part, kind in _PARTS.items():
        if part in names:
            return kind
    if mimetype.startswith(b"application/vnd.oasis.opendocument.spreadsheet"):
        return "sheets"
    raise unsupported("The file is an archive of a kind that is not read.")


def _in_ole(path: Path, suffix: str) -> Kind:
    with path.open("rb") as file:
        # The names of the streams are in its directory, which may be anywhere; a document this long is not read.
        found = _ENCRYPTED in file.read(64 * 1024 * 1024)
    if found:
        raise broken("The file is encrypted: upload it without a password.")
    if suffix == ".xls":
        return "sheets"
    raise unsupported("The file is a document of an old Office: save it in today's format.")
