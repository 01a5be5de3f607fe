"""Files: the request to upload one, the object, and its name.

Invariant: a file's name is data and never a path on disk. It is shown and returned without unprintable characters and
without folders; the bytes are stored under the file's id.
"""

import unicodedata
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, with_config
from typing_extensions import TypedDict

from wire.closed import CLOSED
from wire.errors import InvalidRequest, NotFound
from wire.validation import Request

__all__ = [
    "File",
    "FileCreate",
    "FileExpiry",
    "FileQuery",
    "UploadPurpose",
    "clean_filename",
    "new_file",
    "no_such_file",
]

_MAX_NAME: Final = 255  # characters

UploadPurpose = Literal["assistants", "vision", "user_data", "batch", "fine-tune", "evals"]


class FileExpiry(Request):
    """When a file expires, in seconds after its creation."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class FileCreate(Request):
    """The fields of POST /files besides the file itself."""

    purpose: UploadPurpose
    expires_after: FileExpiry | None = None


class FileQuery(BaseModel):
    """GET /files."""

    purpose: str | None = Field(None, max_length=64)
    limit: int = Field(10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = Field(None, max_length=64)


@with_config(CLOSED)
class File(TypedDict):
    """The object `file`."""

    id: str
    object: Literal["file"]
    bytes: Annotated[int, Field(description="Size")]
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


def new_file(request: FileCreate, *, id: str, filename: str, size: int, now: int) -> File:
    """Make the wire object; `size` in bytes, `now` in Unix seconds."""
    return {
        "id": id,
        "object": "file",
        "bytes": size,
        "created_at": now,
        "expires_at": None if request.expires_after is None else now + request.expires_after.seconds,
        "filename": filename,
        "purpose": request.purpose,
        "status": "processed",
        "status_details": None,
    }


def clean_filename(given: str, *, param: str = "file") -> str:
    """Return the last part of a path, without control and formatting characters; `file` if nothing is left.

    Raises InvalidRequest for the parameter `param` if the name has more than 255 characters.
    """
    printable = "".join(
        letter for letter in given if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )
    name = printable.replace("\\", "/").rstrip("/ ").rpartition("/")[2].strip()
    if len(name) > _MAX_NAME:
        message = f"The file's name has {len(name)} characters; at most {_MAX_NAME} are allowed. Use a shorter name."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return name if name.strip(".") else "file"


def no_such_file(file_id: str) -> NotFound:
    """Return the error for a file that does not exist."""
    return NotFound(f"No such File object: {file_id}", param="id")
