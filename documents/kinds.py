"""Detects a file's kind by its content. Its name decides only between kinds of text, and for old Excel files."""

import re
import zipfile
from pathlib import Path
from typing import Final, Literal

from lxml import etree

from documents.extraction_errors import invalid_file, unsupported_file
from documents.package import Package, Part, plain_name

__all__ = ["Kind", "detect_kind", "office_kind"]

Kind = Literal["pdf", "docx", "pptx", "sheets", "html", "json", "text"]

_HEAD: Final = 4096  # bytes
_OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_OFFICE: Final[dict[str, Kind]] = {
    "wordprocessingml": "docx",
    "ms-word": "docx",
    "presentationml": "pptx",
    "ms-powerpoint": "pptx",
    "spreadsheetml": "sheets",
    "ms-excel": "sheets",
}
"""Substrings of the main part's content type: documents, templates and shows, with or without macros."""
_ROOTS: Final[dict[str, Kind]] = {
    "{wordprocessingml/main}document": "docx",
    "{presentationml/main}presentation": "pptx",
    "{spreadsheetml/main}workbook": "sheets",
}
_HTML: Final = (".html", ".htm", ".xhtml", ".xht")
_JSON: Final = (".json", ".jsonl", ".ndjson", ".jsonc", ".json5", ".geojson", ".ipynb", ".har", ".webmanifest")
_JSON_START: Final = re.compile(rb'\{\s*"|\[\s*\{\s*"')


def detect_kind(path: Path, suffix: str, *, max_unpacked_bytes: int) -> Kind:
    """Return the kind; `suffix` is that of the file's name, lower case. Raises ExtractionError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise invalid_file("The file is empty.")
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _in_zip(path, max_unpacked_bytes)
    if head.startswith(_OLE):
        return _in_ole(path, suffix)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if suffix in _HTML or start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if suffix in _JSON or _JSON_START.match(start):
        return "json"
    return "text"


def office_kind(package: Package, main: Part) -> Kind | None:
    """Return the kind of an Office document by its main part's content type, else by the part's root element.

    Raises lxml's errors if the part is not XML.
    """
    for mark, kind in _OFFICE.items():
        if mark in main.content_type:
            return kind
    root = _Root()
    package.feed(main, root)
    return _ROOTS.get(root.name)


class _Root:
    """A parser target that keeps the name of the first element."""

    def __init__(self) -> None:
        self.name = ""

    def start(self, tag: str, _: object) -> None:
        self.name = self.name or plain_name(tag)

    def close(self) -> None:
        pass


def _in_zip(path: Path, max_unpacked_bytes: int) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            mimetype = archive.read("mimetype")[:100] if "mimetype" in archive.namelist()[:1] else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise invalid_file(f"The file is a damaged archive: {error}.") from error
    size = sum(entry.file_size for entry in entries)
    if size > max_unpacked_bytes:
        raise invalid_file(f"The file unpacks to {size} bytes; at most {max_unpacked_bytes} are allowed. Split it.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise invalid_file("The file is encrypted: upload it without a password.")
    if mimetype.startswith(b"application/vnd.oasis.opendocument.spreadsheet"):
        return "sheets"
    kind = _in_package(path)
    if kind is None:
        raise unsupported_file("The file is an archive of an unsupported kind.")
    return kind


def _in_package(path: Path) -> Kind | None:
    try:
        with Package(path) as package:
            main = package.main()
            return None if main is None else office_kind(package, main)
    except (etree.LxmlError, zipfile.BadZipFile) as error:
        raise invalid_file(f"The file is damaged: {error}.") from error


def _in_ole(path: Path, suffix: str) -> Kind:
    with path.open("rb") as file:
        # The directory with the names of the streams can be anywhere in the file; only the first 64 MiB are searched.
        is_encrypted = _ENCRYPTED in file.read(64 * 1024 * 1024)
    if is_encrypted:
        raise invalid_file("The file is encrypted: upload it without a password.")
    if suffix == ".xls":
        return "sheets"
    raise unsupported_file("The file is in an old Office format: save it in a current format.")
