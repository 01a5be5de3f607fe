"""Why a file is not read: one of two error codes, and a message for the user who uploaded the file."""

from typing import Literal

__all__ = ["SUPPORTED", "ExtractionError", "invalid_file", "unsupported_file"]

SUPPORTED = (
    "Supported are PDF, Word (.docx), PowerPoint (.pptx), spreadsheets (.xlsx, .xlsb, .xls, .ods), HTML, and text of "
    "any kind: Markdown, JSON, CSV, source code. Templates and files with macros are supported as well."
)


class ExtractionError(Exception):
    """A file that is not read."""

    def __init__(self, code: Literal["unsupported_file", "invalid_file"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def unsupported_file(what: str) -> ExtractionError:
    """Return the refusal of an unsupported kind of file, which lists the supported kinds."""
    return ExtractionError("unsupported_file", f"{what} {SUPPORTED}")


def invalid_file(message: str) -> ExtractionError:
    """Return the refusal of an invalid file."""
    return ExtractionError("invalid_file", message)
