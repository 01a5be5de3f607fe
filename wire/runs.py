"""Runs: the requests to create and modify them and to submit outputs, the object, and how it is made from a request."""

from typing import Annotated, Final, Literal, NotRequired, TypeVar

from pydantic import BeforeValidator, Field, model_validator, with_config
from typing_extensions import TypedDict

from wire.assistants import Assistant, Instructions, ModelName
from wire.closed import CLOSED, OPEN
from wire.field_markers import FieldMarker
from wire.json import JsonObject
from wire.messages import NewMessages, Reason
from wire.metadata import Metadata
from wire.model_options import (
    NO_REASONING,
    UNKNOWN_SAMPLING,
    CommonOptions,
    ReasoningOptions,
    ReasoningShown,
    RunSampling,
    apply_reasoning,
    apply_sampling,
)
from wire.resources import Resources, ToolResources
from wire.status import Status
from wire.threads import ThreadCreate
from wire.tools import Tool, ToolChoice, TruncationStrategy, echo
from wire.v1_requests import rename_retrieval
from wire.validation import Id, Request

__all__ = [
    "RUN_DEFAULTS",
    "LastError",
    "RequiredAction",
    "Run",
    "RunChange",
    "RunCreate",
    "RunDefaults",
    "RunModify",
    "RunNotes",
    "RunOutcome",
    "RunUsage",
    "RunValues",
    "SubmitToolOutputs",
    "SubmittedOutput",
    "ThreadRunCreate",
    "ToolOutput",
    "Truncation",
    "WantedCall",
    "WantedFunction",
    "new_run",
    "queued_run",
]


_MAX_TOOL_OUTPUTS: Final = 1_000
"""Our own limit. OpenAI's models make at most 128 parallel calls, but other models can make more."""


_MAX_OUTPUT: Final = 1_048_576
"""Maximum characters of one output, as with OpenAI. All outputs of a request together have a lower limit, in bytes."""


def _unlimited(value: object) -> object:
    """Convert -1, which old clients send for no limit."""
    return None if type(value) is int and value == -1 else value


_Budget = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_unlimited)]


# Pydantic takes the fields of the last base first. Of several errors, the one of the first field is reported.


class _Replacements(Request):
    assistant_id: Id
    model: ModelName | None = None
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=20)] | None = None
    metadata: Metadata | None = None


class _RunFields(CommonOptions, _Replacements):
    max_prompt_tokens: _Budget = None
    max_completion_tokens: _Budget = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_v1(cls, data: object) -> object:
        return rename_retrieval(data)


class _Additions(_RunFields):
    additional_instructions: Instructions | None = None
    additional_messages: NewMessages | None = None


class RunCreate(ReasoningOptions, _Additions):
    """POST /threads/{thread_id}/runs: fields that are given replace the assistant's values for this run."""


class ThreadRunCreate(_RunFields):
    """POST /threads/runs."""

    thread: ThreadCreate | None = None
    tool_resources: ToolResources | None = None


class RunModify(Request):
    """POST /threads/{thread_id}/runs/{run_id}: metadata only."""

    metadata: Metadata | None = None


class ToolOutput(Request):
    """What a function returned."""

    tool_call_id: str
    output: Annotated[str, Field(max_length=_MAX_OUTPUT)] | None = None


class SubmittedOutput(TypedDict, total=False):
    """A `ToolOutput` inside the server."""

    tool_call_id: str
    output: str | None


class SubmitToolOutputs(Request):
    """POST …/submit_tool_outputs: all outputs in one request."""

    tool_outputs: Annotated[list[ToolOutput], Field(max_length=_MAX_TOOL_OUTPUTS)]
    stream: bool | None = None

    def given(self) -> list[SubmittedOutput]:
        """Return the outputs."""
        return [{"tool_call_id": one.tool_call_id, "output": one.output} for one in self.tool_outputs]


@with_config(OPEN)
class RunUsage(TypedDict):
    """Tokens of all completions."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@with_config(OPEN)
class LastError(TypedDict):
    """Why a run or step failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


@with_config(OPEN)
class RunNotes(TypedDict):
    """Notes on a run that only this server makes, for clients that ask for extensions."""

    left_out_messages: Annotated[
        int, Field(description="messages of the thread that its newest prompt left out for their length")
    ]
    at_least: NotRequired[Annotated[bool, Field(description="there are more, too old to be counted")]]
    context_limit: Annotated[int | None, Field(description="the model's context in tokens, as far as it is known")]


@with_config(OPEN)
class WantedFunction(TypedDict):
    """A call that the client must answer."""

    name: str
    arguments: str


@with_config(OPEN)
class WantedCall(TypedDict):
    """A call that the client must answer: of a function, or of an action that needs approval."""

    id: str
    type: Literal["function"]
    function: WantedFunction


@with_config(OPEN)
class WantedOutputs(TypedDict):
    """All calls that the client must answer, in one request."""

    tool_calls: list[WantedCall]


@with_config(OPEN)
class RequiredAction(TypedDict):
    """What a run waits for."""

    type: Literal["submit_tool_outputs"]
    submit_tool_outputs: WantedOutputs


@with_config(OPEN)
class Truncation(TypedDict):
    """Which messages of the thread a run reads."""

    type: Literal["auto", "last_messages"]
    last_messages: NotRequired[int | None]


class RunValues(RunSampling, ReasoningShown):
    """The fields of a run that its request and its assistant determine, or its caller if it has no assistant."""

    model: str
    instructions: str
    tools: list[JsonObject]
    tool_resources: Annotated[Resources, FieldMarker.ADDED_IN_V2]
    metadata: dict[str, str]
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    truncation_strategy: Truncation
    tool_choice: str | JsonObject
    parallel_tool_calls: Annotated[bool, FieldMarker.ADDED_IN_V2]
    response_format: str | JsonObject


class _RunIdentity(TypedDict):
    id: str
    object: Literal["thread.run"]
    created_at: int
    thread_id: str
    assistant_id: str
    status: Status


class _RunProgress(TypedDict):
    required_action: RequiredAction | None
    last_error: LastError | None
    expires_at: int | None
    started_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    incomplete_details: Reason | None
    usage: RunUsage | None


class RunDefaults(_RunProgress, RunValues):
    """The fields of a run that have a default value."""


@with_config(CLOSED)
class Run(_RunIdentity, RunDefaults):
    """The object `thread.run`."""

    threadhold: NotRequired[
        Annotated[
            RunNotes | None, FieldMarker.EXTENSION, Field(description="an extension; present if something was left out")
        ]
    ]
    file_ids: NotRequired[
        Annotated[
            list[str],
            FieldMarker.V1_ONLY,
            Field(
                description="v1's: under `OpenAI-Beta: assistants=v1`, and with extensions where the assistant has them"
            ),
        ]
    ]


class RunOutcome(TypedDict, total=False):
    """Why a run pauses or ends."""

    required_action: RequiredAction | None
    last_error: LastError | None
    incomplete_details: Reason | None


class RunChange(RunOutcome, total=False):
    """The fields of a run that change with its status."""

    status: Status
    expires_at: int | None
    started_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    usage: RunUsage | None


RUN_DEFAULTS: Final[RunDefaults] = {
    "required_action": None,
    "last_error": None,
    "expires_at": None,
    "started_at": None,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": None,
    "incomplete_details": None,
    "usage": None,
    "model": "",
    "instructions": "",
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    **UNKNOWN_SAMPLING,
    "max_prompt_tokens": None,
    "max_completion_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": "auto",
    **NO_REASONING,
}
"""The default values of a run's fields, used for example if the dump of an imported run lacks them."""


def new_run(
    request: RunCreate | ThreadRunCreate,
    assistant: Assistant,
    *,
    id: str,
    thread_id: str,
    now: int,
    expiry_s: int,
) -> Run:
    """Make the wire object, queued, with the values that apply to this run; `now` in Unix seconds."""
    values = _requested(request, assistant)
    return queued_run(values, id=id, thread_id=thread_id, assistant_id=request.assistant_id, now=now, expiry_s=expiry_s)


def queued_run(values: RunValues, *, id: str, thread_id: str, assistant_id: str, now: int, expiry_s: int) -> Run:
    """Make the wire object of a queued run with these values; `now` in Unix seconds."""
    return {
        "id": id,
        "object": "thread.run",
        "created_at": now,
        "thread_id": thread_id,
        "assistant_id": assistant_id,
        "status": "queued",
        **RUN_DEFAULTS,
        "expires_at": now + expiry_s,
        **values,  # type: ignore[typeddict-item]  # a queued run has no extensions
    }


def _requested(request: RunCreate | ThreadRunCreate, assistant: Assistant) -> RunValues:
    tools = assistant["tools"] if request.tools is None else [echo(tool) for tool in request.tools]
    truncation = request.truncation_strategy
    return {
        "model": _or(request.model, assistant["model"]),
        "instructions": _instructions(request, assistant),
        "tools": tools,
        "tool_resources": assistant["tool_resources"],
        "metadata": request.metadata or {},
        **apply_sampling(request, assistant),
        "max_prompt_tokens": request.max_prompt_tokens,
        "max_completion_tokens": request.max_completion_tokens,
        "truncation_strategy": Truncation(type="auto", last_messages=None)
        if truncation is None
        else Truncation(type=truncation.type, last_messages=truncation.last_messages),
        "tool_choice": _or(echo(request.tool_choice), "auto"),
        "parallel_tool_calls": _or(request.parallel_tool_calls, True),
        "response_format": _or(echo(request.response_format), assistant["response_format"]),
        **apply_reasoning(request, assistant),
    }


def _instructions(request: RunCreate | ThreadRunCreate, assistant: Assistant) -> str:
    base = _or(request.instructions, assistant["instructions"]) or ""
    added = request.additional_instructions if isinstance(request, RunCreate) else None
    return "\n\n".join(part for part in (base, added) if part)


_T = TypeVar("_T")


def _or(value: _T | None, otherwise: _T) -> _T:
    return otherwise if value is None else value
