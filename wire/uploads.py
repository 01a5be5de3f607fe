"""Uploads: files that are sent in parts. Their requests and objects.

Statuses: pending → completed: on `complete`; pending → cancelled: on `cancel`; pending → expired: an hour after
creation. The other three are final.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from wire.byte_limits import ByteLimit
from wire.closed import CLOSED
from wire.files import File, FileExpiry, UploadPurpose, clean_filename
from wire.validation import Id, Request

__all__ = [
    "MAX_PARTS",
    "MAX_PART_BYTES",
    "PART_LIMIT",
    "Upload",
    "UploadComplete",
    "UploadCreate",
    "UploadPart",
    "UploadPartCreate",
    "new_part",
    "new_upload",
]

MAX_PART_BYTES: Final = 64 * 1024 * 1024
"""As at OpenAI."""

PART_LIMIT: Final = ByteLimit("The part", MAX_PART_BYTES, advice="send the file in smaller parts")

MAX_PARTS: Final = 2_000
"""Parts of one upload. This is our own limit, because each part rewrites the list of parts."""

_LIFETIME_S: Final = 3_600


class UploadCreate(Request):
    """POST /uploads. `bytes` is the size of the whole file."""

    filename: str = Field(min_length=1, max_length=4096)
    purpose: UploadPurpose
    bytes: int = Field(ge=0)
    mime_type: str = Field(min_length=1, max_length=255)
    expires_after: FileExpiry | None = None


class UploadPartCreate(Request):
    """POST /uploads/{upload_id}/parts: it has no fields besides `data`."""


class UploadComplete(Request):
    """POST /uploads/{upload_id}/complete. The file consists of the parts in this order."""

    part_ids: Annotated[list[Id], Field(max_length=MAX_PARTS)]
    md5: str | None = None


@with_config(CLOSED)
class Upload(TypedDict):
    """The object `upload`; `file` is null until it is completed."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: UploadPurpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None


@with_config(CLOSED)
class UploadPart(TypedDict):
    """The object `upload.part`."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


def new_upload(asked: UploadCreate, *, id: str, now: int) -> Upload:
    """Make the wire object; `now` in Unix seconds."""
    return {
        "id": id,
        "object": "upload",
        "bytes": asked.bytes,
        "created_at": now,
        "expires_at": now + _LIFETIME_S,
        "filename": clean_filename(asked.filename, param="filename"),
        "purpose": asked.purpose,
        "status": "pending",
        "file": None,
    }


def new_part(*, id: str, upload_id: str, now: int) -> UploadPart:
    """Make the wire object of a part; `now` in Unix seconds."""
    return {"id": id, "object": "upload.part", "created_at": now, "upload_id": upload_id}
