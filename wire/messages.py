"""Messages: the requests to create and modify them, the object, and how it is made from a request."""

from operator import itemgetter
from typing import Annotated, Final, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag, with_config
from typing_extensions import TypedDict

from wire.closed import CLOSED, OPEN
from wire.field_markers import FieldMarker
from wire.metadata import Metadata
from wire.validation import Id, Request, invalid_value, one_of
from wire.vector_stores import MAX_FILES_AT_ONCE

__all__ = [
    "Annotation",
    "AttachedFile",
    "Message",
    "MessageContent",
    "MessageCreate",
    "MessageModify",
    "NewMessages",
    "Reason",
    "RefusalContent",
    "ShownFile",
    "TextContent",
    "TextValue",
    "UsableBy",
    "annotation",
    "new_message",
    "open_message",
    "plain_text",
]

# OpenAI documents no limits for these lists. Ours are above what its own service accepts, and keep one request cheap.
_MAX_PARTS: Final = 500
_MAX_ATTACHMENTS: Final = 500
_MAX_ATTACHMENT_TOOLS: Final = 16
_MAX_NEW_MESSAGES: Final = 500
_MAX_TEXT: Final = 1_024_000
"""Characters of all text parts of a message. A message is one row, which is read, encoded and sent in one piece."""

Text = Annotated[str, StringConstraints(max_length=256_000)]
ImageAddress = Annotated[str, StringConstraints(max_length=28_000_000)]
"""An `https:` URL, or a `data:` URL. The maximum length allows a picture of 20 MB, OpenAI's limit, if MAX_BODY_BYTES
does too."""

Detail = Literal["auto", "low", "high"]


class TextPart(Request):
    """Text, in a request as a plain string."""

    type: Literal["text"]
    text: Text


class ImageUrl(Request):
    """The address of an image."""

    url: ImageAddress
    detail: Detail | None = None


class ImageUrlPart(Request):
    """An image by URL."""

    type: Literal["image_url"]
    image_url: ImageUrl


class ImageFile(Request):
    """The file of an image."""

    file_id: Id
    detail: Detail | None = None


class ImageFilePart(Request):
    """An image by file."""

    type: Literal["image_file"]
    image_file: ImageFile


class AttachmentTool(Request):
    """A tool that can use an attached file."""

    type: Literal["code_interpreter", "file_search"]


class Attachment(Request):
    """A file, and the tools that can use it."""

    file_id: Id
    tools: Annotated[list[AttachmentTool], Field(max_length=_MAX_ATTACHMENT_TOOLS)] | None = None


_Part = TextPart | ImageUrlPart | ImageFilePart
ContentPart: TypeAlias = one_of(text=TextPart, image_url=ImageUrlPart, image_file=ImageFilePart)  # type: ignore[valid-type]


def _check_text(parts: list["_Part"]) -> list["_Part"]:
    length = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    if length > _MAX_TEXT:
        raise invalid_value(f"its texts have {length} characters together, and at most {_MAX_TEXT} are allowed")
    return parts


ContentParts = Annotated[
    list[ContentPart],
    Field(min_length=1, max_length=_MAX_PARTS, description=f"At most {_MAX_TEXT} characters of text"),
    AfterValidator(_check_text),
]
# The alternatives are distinguished first, so that an error names the path within the intended one.
Content = Annotated[
    Annotated[Text, Tag("~text")] | Annotated[ContentParts, Tag("~parts")],
    Discriminator(lambda value: "~parts" if isinstance(value, list) else "~text"),
]


class MessageCreate(Request):
    """POST /threads/{thread_id}/messages, and the messages of a new thread or run."""

    role: Literal["user", "assistant"]
    content: Content
    attachments: Annotated[list[Attachment], Field(max_length=_MAX_ATTACHMENTS)] | None = None
    metadata: Metadata | None = None
    file_ids: Annotated[list[Id], Field(max_length=10)] | None = Field(
        None, description="v1; becomes `attachments` for both tools", json_schema_extra={"deprecated": True}
    )


def _check_attachments(messages: list[MessageCreate]) -> list[MessageCreate]:
    count = sum(len(message.attachments or ()) + len(message.file_ids or ()) for message in messages)
    if count > MAX_FILES_AT_ONCE:
        raise invalid_value(
            f"the messages have {count} attachments together, and at most {MAX_FILES_AT_ONCE} are allowed; send the "
            "rest in further requests"
        )
    return messages


NewMessages = Annotated[
    list[MessageCreate],
    Field(max_length=_MAX_NEW_MESSAGES, description=f"At most {MAX_FILES_AT_ONCE} attachments together"),
    AfterValidator(_check_attachments),
]
"""Messages in a request for a new thread or run."""


class MessageModify(Request):
    """POST /threads/{thread_id}/messages/{message_id}: metadata only."""

    metadata: Metadata | None = None


@with_config(OPEN)
class Reason(TypedDict):
    """Why a message or run is incomplete."""

    reason: str


@with_config(OPEN)
class Citation(TypedDict):
    """The file of a citation."""

    file_id: str


@with_config(ConfigDict(extra="allow"))
class Annotation(TypedDict):
    """A citation in a text, from `start_index` up to `end_index`. Imported ones can have other fields."""

    type: Literal["file_citation", "file_path"]
    text: str
    start_index: int
    end_index: int
    file_citation: NotRequired[Citation]
    file_path: NotRequired[Citation]


@with_config(OPEN)
class TextValue(TypedDict):
    """A text with its citations."""

    value: str
    annotations: list[Annotation]


@with_config(OPEN)
class TextContent(TypedDict):
    """A part that is text."""

    type: Literal["text"]
    text: TextValue


@with_config(OPEN)
class ShownUrl(TypedDict):
    """The address of an image."""

    url: str
    detail: str | None


@with_config(OPEN)
class ImageUrlContent(TypedDict):
    """A part that is an image by URL."""

    type: Literal["image_url"]
    image_url: ShownUrl


@with_config(OPEN)
class ShownFile(TypedDict):
    """The file of an image."""

    file_id: str
    detail: str


@with_config(OPEN)
class ImageFileContent(TypedDict):
    """A part that is an image by file."""

    type: Literal["image_file"]
    image_file: ShownFile


@with_config(OPEN)
class RefusalContent(TypedDict):
    """A part that is a model's refusal."""

    type: Literal["refusal"]
    refusal: str


MessageContent: TypeAlias = Annotated[
    TextContent | ImageUrlContent | ImageFileContent | RefusalContent, Field(discriminator="type")
]


@with_config(OPEN)
class UsableBy(TypedDict):
    """A tool that can use an attached file."""

    type: str


@with_config(OPEN)
class AttachedFile(TypedDict):
    """A file, and the tools that can use it."""

    file_id: str
    tools: NotRequired[list[UsableBy]]


@with_config(CLOSED)
class Message(TypedDict):
    """The object `thread.message`."""

    id: str
    object: Literal["thread.message"]
    created_at: int
    thread_id: str
    status: Literal["in_progress", "incomplete", "completed"]
    incomplete_details: Reason | None
    completed_at: int | None
    incomplete_at: int | None
    role: Literal["user", "assistant"]
    content: list[MessageContent]
    assistant_id: str | None
    run_id: str | None
    attachments: Annotated[list[AttachedFile], FieldMarker.ADDED_IN_V2]
    metadata: dict[str, str]
    file_ids: NotRequired[
        Annotated[list[str], FieldMarker.V1_ONLY, Field(description="only under `OpenAI-Beta: assistants=v1`")]
    ]


def new_message(request: MessageCreate, *, id: str, thread_id: str, now: int) -> Message:
    """Make the wire object of a complete message; `now` in Unix seconds."""
    attachments = [_attached(each) for each in request.attachments or ()]
    tools: list[UsableBy] = [{"type": "file_search"}, {"type": "code_interpreter"}]
    attached = {
        each["file_id"] for each in attachments
    }  # a v1 message that a client sends back lists its files in both fields
    attachments += [{"file_id": id, "tools": tools} for id in request.file_ids or () if id not in attached]
    return {
        **open_message(id=id, thread_id=thread_id, run_id=None, assistant_id=None, now=now),
        "status": "completed",
        "completed_at": now,
        "role": request.role,
        "content": _content(request.content),
        "attachments": attachments,
        "metadata": request.metadata or {},
    }


def open_message(*, id: str, thread_id: str, run_id: str | None, assistant_id: str | None, now: int) -> Message:
    """Make the wire object of an empty message that a run is going to write; `now` in Unix seconds."""
    return {
        "id": id,
        "object": "thread.message",
        "created_at": now,
        "thread_id": thread_id,
        "status": "in_progress",
        "incomplete_details": None,
        "completed_at": None,
        "incomplete_at": None,
        "role": "assistant",
        "content": [],
        "assistant_id": assistant_id,
        "run_id": run_id,
        "attachments": [],
        "metadata": {},
    }


def _attached(attachment: Attachment) -> AttachedFile:
    if attachment.tools is None:
        return {"file_id": attachment.file_id}
    return {"file_id": attachment.file_id, "tools": [{"type": tool.type} for tool in attachment.tools]}


def _content(content: str | list[_Part]) -> list[MessageContent]:
    if isinstance(content, str):
        return [_text(content)]
    return [_part(part) for part in content]


def _part(part: _Part) -> MessageContent:
    match part:
        case TextPart():
            return _text(part.text)
        case ImageUrlPart():
            url = part.image_url
            return {"type": "image_url", "image_url": {"url": url.url, "detail": url.detail or "auto"}}
        case ImageFilePart():
            file = part.image_file
            return {"type": "image_file", "image_file": {"file_id": file.file_id, "detail": file.detail or "auto"}}


def _text(value: str) -> TextContent:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def annotation(marker: str, file_id: str, at: int) -> Annotation:
    """Make the annotation of a marker that begins at character `at` of the text."""
    return {
        "type": "file_citation",
        "text": marker,
        "start_index": at,
        "end_index": at + len(marker),
        "file_citation": {"file_id": file_id},
    }


def plain_text(text: TextValue) -> str:
    """Return the value of a text part without its citation markers."""
    value = text["value"]
    cited = [each for each in text.get("annotations") or () if each["type"] == "file_citation"]
    if not cited:
        return value
    pieces: list[str] = []
    start = 0
    for each in sorted(cited, key=itemgetter("start_index")):  # imported citations can overlap
        pieces.append(value[start : each["start_index"]])
        start = max(start, each["end_index"])
    pieces.append(value[start:])
    return "".join(pieces)
