"""Why a file says nothing: the two codes of the wire, and a sentence for who uploaded it."""

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
    """Say that files of this kind are not read, and which are."""
    return Refused("unsupported_file", f"{what} {SUPPORTED}")


def broken(message: str) -> Refused:
    """Say what is wrong with this file."""
    return Refused("invalid_file", message)
