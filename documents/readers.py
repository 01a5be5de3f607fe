"""One reader for each kind of file: yields its text in parts. Runs in the child only (`documents.child`).

The modules that need libraries are imported where they are used: a process reads one file.
"""

import email
import io
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from pathlib import Path
from typing import Final

from documents.charsets import decode
from documents.extraction_errors import invalid_file
from documents.kinds import Kind, office_kind
from documents.package import Package, Part

__all__ = ["FileReader", "read_office"]

_MAX_EMBEDDED: Final = 3
"""Maximum nesting of documents within documents."""


@dataclass(slots=True)
class FileReader:
    """The text of one file. `note` reports what was guessed or replaced; it is complete after the last part."""

    kind: Kind
    path: Path
    max_bytes: int
    """Maximum size of a text file."""
    note: str | None = None

    def parts(self) -> Iterator[str]:
        """Yield the text in parts, which a line end separates.

        Raises ExtractionError, and what the libraries raise for a damaged file.
        """
        match self.kind:
            case "pdf":
                from documents.pdf import read_pdf

                return read_pdf(self.path)
            case "docx" | "pptx":
                return read_office(self.path)
            case "sheets":
                from documents.sheets import read_sheets

                return read_sheets(self.path)
            case "html" | "json" | "text":
                return iter((self._read_text(),))

    def _read_text(self) -> str:
        size = self.path.stat().st_size
        if size > self.max_bytes:
            raise invalid_file(f"The file has {size} bytes of text; at most {self.max_bytes} are allowed. Split it.")
        decoded = decode(self.path.read_bytes())
        self.note = decoded.note
        if self.kind == "html":
            from documents.webpages import read_page

            return read_page(decoded.text)
        if self.kind == "json":
            from documents.jsontext import decode_escapes

            return decode_escapes(decoded.text)
        return decoded.text


def read_office(source: Path | io.BytesIO, depth: int = 0) -> Iterator[str]:
    """Yield the text of a Word document or a presentation at nesting level `depth`."""
    from documents.slides import read_slides
    from documents.word import read_word

    def embedded(package: Package, part: Part) -> str:
        return _read_embedded(part, package.read(part), depth + 1)

    with Package(source) as package:
        main = package.main()
        if main is None:
            raise invalid_file("The file is an Office document without a main part.")
        if office_kind(package, main) == "pptx":
            yield from read_slides(package, main)
        else:
            yield from read_word(package, main, embedded)


def _read_embedded(part: Part, data: bytes, depth: int) -> str:
    """Return the text of a file that a Word document includes (`w:altChunk`): HTML, plain text, mail or Office."""
    from documents.webpages import read_page

    kind = part.content_type
    if depth > _MAX_EMBEDDED:
        return ""
    if data.startswith(b"PK"):
        return "\n".join(read_office(io.BytesIO(data), depth))
    if "html" in kind:
        return read_page(decode(data).text)
    if "rfc822" in kind or "related" in kind or part.name.lower().endswith((".mht", ".mhtml", ".eml")):
        body = email.message_from_bytes(data, policy=policy.default).get_body(("html", "plain"))
        content = "" if body is None else str(body.get_content())
        return read_page(content) if body is not None and body.get_content_subtype() == "html" else content
    return decode(data).text if kind.startswith("text/plain") else ""
