"""Parses objects of dumps: OpenAI's answers, what programs saved of them, and the output of `threadhold export`. Pure.

Invariants: ids and times are kept. Unknown keys are ignored, as dumps have more keys than objects. An invalid value of
a known key is refused with the error of an invalid request. Only required fields get defaults: a message needs no more
than its role and content.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, RootModel, Tag

from wire.assistants import Assistant, AssistantCreate, new_assistant
from wire.errors import InvalidRequest
from wire.json import JsonObject, JsonView
from wire.leniency import repair
from wire.messages import Annotation, AttachedFile, Message, MessageContent, Reason, UsableBy, open_message
from wire.metadata import Metadata
from wire.model_options import UNSET_SAMPLING, requested_sampling
from wire.resources import ToolResources, resources_body
from wire.runs import RUN_DEFAULTS, Run
from wire.steps import STEP_DEFAULTS, RunStep
from wire.threads import Thread
from wire.tool_secrets import drop_masked, mask_tools
from wire.validation import Id, check_id, one_of, parse

__all__ = [
    "DumpKind",
    "assistant_parts",
    "kind_of",
    "listed",
    "message_body",
    "missing_keys",
    "oldest_first",
    "run_body",
    "step_body",
    "thread_body",
    "time_of",
    "unwrapped",
]

DumpKind = Literal["assistant", "thread", "message", "run", "step"]

_KINDS: Final[dict[str, DumpKind]] = {
    "assistant": "assistant",
    "thread": "thread",
    "thread.message": "message",
    "thread.run": "run",
    "thread.run.step": "step",
}
_ID: Final = re.compile(r"[A-Za-z0-9_-]+")


class _Dumped(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) else value


def _valued(value: object) -> object:
    return {"value": value} if isinstance(value, str) else value


Seconds = Annotated[int, Field(ge=0, le=253_402_300_799, strict=True), BeforeValidator(_whole)]
"""Unix seconds, up to the year 9999."""


class _Annotation(BaseModel):
    """A citation: its position in the text, and any other fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["file_citation", "file_path"]
    text: str
    start_index: int = Field(ge=0)
    end_index: int = Field(ge=0)


class _TextValue(_Dumped):
    value: str
    annotations: list[_Annotation] = []


class _TextPart(_Dumped):
    type: Literal["text"]
    text: Annotated[_TextValue, BeforeValidator(_valued)]


class _RefusalPart(_Dumped):
    type: Literal["refusal"]
    refusal: str


class _ImageUrl(_Dumped):
    url: str
    detail: str | None = None


class _ImageUrlPart(_Dumped):
    type: Literal["image_url"]
    image_url: _ImageUrl


class _ImageFile(_Dumped):
    file_id: Id
    detail: str | None = None


class _ImageFilePart(_Dumped):
    type: Literal["image_file"]
    image_file: _ImageFile


_AnyPart = _TextPart | _RefusalPart | _ImageUrlPart | _ImageFilePart
_Part: TypeAlias = one_of(  # type: ignore[valid-type]
    text=_TextPart, image_url=_ImageUrlPart, image_file=_ImageFilePart, refusal=_RefusalPart
)
_Content = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[_Part], Tag("~parts")],
    Discriminator(lambda value: "~parts" if isinstance(value, list) else "~text"),
]


class _Tool(_Dumped):
    type: str


class _Attachment(_Dumped):
    file_id: Id
    tools: list[_Tool] | None = None


class _Message(_Dumped):
    role: Literal["user", "assistant"]
    content: _Content
    status: Literal["in_progress", "incomplete", "completed"] | None = None
    incomplete_details: JsonObject | None = None
    completed_at: Seconds | None = None
    incomplete_at: Seconds | None = None
    assistant_id: Id | None = None
    run_id: Id | None = None
    attachments: list[_Attachment] | None = None
    file_ids: list[Id] | None = None
    metadata: Metadata | None = None


class _Thread(_Dumped):
    metadata: Metadata | None = None


class _Time(_Dumped):
    created_at: Seconds | None = None


class _Times(_Time):
    expires_at: Seconds | None = None
    expired_at: Seconds | None = None
    started_at: Seconds | None = None
    cancelled_at: Seconds | None = None
    failed_at: Seconds | None = None
    completed_at: Seconds | None = None


def kind_of(data: object) -> DumpKind:
    """Return the kind of an entry of a dump. Raises InvalidRequest if it cannot be imported."""
    if not isinstance(data, dict):
        raise InvalidRequest("This is not a JSON object.")
    named = data.get("object")
    if isinstance(named, str) and named in _KINDS:
        return _KINDS[named]
    if named is not None:
        raise InvalidRequest(f"`object` is '{str(named)[:50]}'; it can be one of {', '.join(_KINDS)}.")
    if "messages" in data:
        return "thread"
    if "role" in data and "content" in data:
        return "message"
    raise InvalidRequest(
        "The kind of this object is unknown: it has no `object`, no `messages`, and not both `role` and `content`."
    )


def unwrapped(data: object) -> object:
    """Return a thread that contains its `messages` and `runs`, for an entry that has these next to its `thread`: the
    page saves threads in that form. Return anything else unchanged."""
    if not isinstance(data, dict) or "object" in data or not isinstance(data.get("thread"), dict):
        return data
    parts = {name: data[name] for name in ("messages", "runs") if name in data}
    return {"object": "thread", **data["thread"], **parts}


def listed(value: object, where: str) -> list[dict[str, object]]:
    """Return the objects of a plain list, or of a listing as the API returns it. Raises InvalidRequest."""
    found = value.get("data") if isinstance(value, dict) else value
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidRequest(f"Invalid type for '{where}': expected an array of objects.", param=where)
    return found


def time_of(data: Mapping[str, object]) -> int | None:
    """Return `created_at` in Unix seconds, None if it is missing. Raises InvalidRequest."""
    return parse(_Time, data).created_at


def oldest_first(objects: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return the objects in order of `created_at`.

    Objects of the same second keep their order. It is reversed if newer objects mostly come first, as in the API's
    listings. An object without a time stays next to the one before it.
    """
    times: list[int] = []
    for each in objects:
        time = time_of(each)
        times.append(time if time is not None else times[-1] if times else 0)
    steps = list(pairwise(times))
    paired = list(zip(times, objects, strict=True))
    if sum(late < early for early, late in steps) > sum(late > early for early, late in steps):
        paired.reverse()
    return [each for _, each in sorted(paired, key=lambda pair: pair[0])]


def thread_body(data: dict[str, object], *, id: str, created_at: int) -> Thread:
    """Make a thread's wire object. Raises InvalidRequest."""
    _check_id(id, "thread_")
    resources = data.get("tool_resources")
    return {
        "id": id,
        "object": "thread",
        "created_at": created_at,
        "metadata": parse(_Thread, data).metadata or {},
        "tool_resources": {} if resources is None else resources_body(parse(ToolResources, resources)),
    }


def message_body(data: dict[str, object], *, id: str, thread_id: str, created_at: int) -> Message:
    """Make a message's wire object; one that was in progress becomes incomplete. Raises InvalidRequest."""
    _check_id(id, "msg_")
    given = parse(_Message, data)
    ended = given.status or "completed"
    status = "incomplete" if ended == "in_progress" else ended
    made = open_message(
        id=id, thread_id=thread_id, run_id=given.run_id, assistant_id=given.assistant_id, now=created_at
    )
    details = Reason(reason=str((given.incomplete_details or {}).get("reason") or "run_failed"))
    attachments = [_attached(each) for each in given.attachments or ()]
    both: list[UsableBy] = [{"type": "file_search"}, {"type": "code_interpreter"}]  # the meaning of v1's `file_ids`
    attachments += [{"file_id": file_id, "tools": both} for file_id in given.file_ids or () if not attachments]
    return {
        **made,
        "role": given.role,
        "content": _content(given.content),
        "status": status,
        "completed_at": (given.completed_at or created_at) if status == "completed" else None,
        "incomplete_at": (given.incomplete_at or created_at) if status == "incomplete" else None,
        "incomplete_details": details if status == "incomplete" else None,
        "attachments": attachments,
        "metadata": given.metadata or {},
    }


def run_body(data: dict[str, object], *, thread_id: str) -> Run | None:
    """Make a run's wire object; None if the run had not ended. Raises InvalidRequest."""
    _check_id(str(data.get("id", "")), "run_")
    if data.get("status") in ("queued", "in_progress", "requires_action", "cancelling"):
        return None
    fixed = {"object": "thread.run", "thread_id": thread_id, "required_action": None}
    made = _filled(_WholeRun, Run.__annotations__, data, RUN_DEFAULTS, fixed)
    return {**made, "tools": mask_tools(made["tools"])}


def step_body(data: dict[str, object], *, run_id: str, thread_id: str, assistant_id: str) -> RunStep:
    """Make the wire object of a step of a run. Raises InvalidRequest."""
    _check_id(str(data.get("id", "")), "step_")
    of = {"object": "thread.run.step", "thread_id": thread_id, "run_id": run_id}
    return _filled(_WholeStep, RunStep.__annotations__, data, {**STEP_DEFAULTS, "assistant_id": assistant_id}, of)


def assistant_parts(data: dict[str, object], *, now: int) -> tuple[Assistant, list[JsonObject], dict[str, float]]:
    """Make an assistant's wire object, its tools with their secrets, and the sampling options that are set.

    Raises InvalidRequest.

    A sampling option with the value that objects show for unset options counts as unset. Masked keys of actions are
    left out; see `missing_keys`.
    """
    _check_id(str(data.get("id", "")), "asst_")
    known = {name: data[name] for name in AssistantCreate.model_fields if data.get(name) is not None}
    known.pop("file_ids", None)  # files are not imported
    known = {name: value for name, value in known.items() if (name, value) not in UNSET_SAMPLING.items()}
    request = parse(AssistantCreate, known)
    made = new_assistant(request, id=str(data["id"]), now=time_of(data) or now)
    tools, _ = drop_masked(made["tools"])
    return {**made, "tools": mask_tools(tools)}, tools, requested_sampling(request)


def missing_keys(data: JsonView) -> dict[int, list[str]]:
    """Return the names of the keys that the assistant of `assistant_parts` lacks, by the index of the tool."""
    return drop_masked(data.get("tools") or [])[1]


def _check_id(id: str, prefix: str) -> None:
    """Raise InvalidRequest for an id that cannot be part of a path."""
    check_id("id", id, prefix)
    if not _ID.fullmatch(id):
        raise InvalidRequest(f"Invalid 'id': '{id}'. Only letters, digits, `_` and `-` are allowed.", param="id")


def _attached(attachment: _Attachment) -> AttachedFile:
    if attachment.tools is None:
        return {"file_id": attachment.file_id}
    return {"file_id": attachment.file_id, "tools": [{"type": tool.type} for tool in attachment.tools]}


def _content(content: str | list[_AnyPart]) -> list[MessageContent]:
    if isinstance(content, str):
        return [{"type": "text", "text": {"value": content, "annotations": []}}]
    return [_part(part) for part in content]


def _part(part: _AnyPart) -> MessageContent:
    match part:
        case _TextPart(text=text):
            found = sorted(text.annotations, key=lambda each: each.start_index)
            cited = cast("list[Annotation]", [each.model_dump() for each in found])  # with any other fields
            return {"type": "text", "text": {"value": text.value, "annotations": cited}}
        case _RefusalPart(refusal=refusal):
            return {"type": "text", "text": {"value": refusal, "annotations": []}}
        case _ImageUrlPart(image_url=url):
            return {"type": "image_url", "image_url": {"url": url.url, "detail": url.detail or "auto"}}
        case _ImageFilePart(image_file=file):
            return {"type": "image_file", "image_file": {"file_id": file.file_id, "detail": file.detail or "auto"}}


T = TypeVar("T")


class _WholeRun(RootModel[Run]):
    """A run, checked."""


class _WholeStep(RootModel[RunStep]):
    """A step, checked."""


def _filled(
    model: type[RootModel[T]],
    names: Iterable[str],
    data: Mapping[str, object],
    otherwise: Mapping[str, object],
    fixed: Mapping[str, object],
) -> T:
    """Return an object's fields: from `fixed`, else from the data, else from `otherwise`. Raises InvalidRequest."""
    given = {name: data[name] for name in names if data.get(name) is not None and name != "file_ids"}
    parse(_Times, given)
    made = {**otherwise, **given, **fixed}
    made = repair(model, made).data
    parse(model, made)
    return cast("T", made)  # as it is in the dump, not as pydantic converts it
