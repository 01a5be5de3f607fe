"""Why a file is not read: one of two error codes, and a message for the user who uploaded the file."""

from typing import Literal

__all__ = ["SUPPORTED", "Refused", "broken", "unsupported"]

SUPPORTED = (
    "Supported are PDF, Word (.docx), PowerPoint (.pptx), spreadsheets (.xlsx, .xlsb, .xls, .ods), HTML, and text of "
    "any kind: Markdown, JSON, CSV, source code. Templates and files with macros are supported as well."
)


class Refused(Exception):
    """A file that is not read."""

    def __init__(self, code: Literal["unsupported_file", "invalid_file"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def unsupported(what: str) -> Refused:
    """Return the refusal of an unsupported kind of file, which lists the supported kinds."""
    return Refused("unsupported_file", f"{what} {SUPPORTED}")


def broken(message: str) -> Refused:
    """Return the refusal of an invalid file."""
    return Refused("invalid_file", message)
