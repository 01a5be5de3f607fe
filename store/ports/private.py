"""The private parts of rows: what only the server is allowed to know, one type for each kind.

Rows of earlier versions can lack the keys that are not required. Kinds that are not here have no private part.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from wire.json import JsonObject

__all__ = [
    "AssistantPrivate",
    "FilePrivate",
    "ItemPrivate",
    "RunPrivate",
    "RunProgress",
    "StepPrivate",
    "UploadPrivate",
    "UsedTokens",
]


class AssistantPrivate(TypedDict):
    """Of an assistant."""

    tools: list[JsonObject]
    """With their secrets; the body has them masked."""
    sampling: dict[str, float]
    """The sampling parameters that were set; the body shows defaults for the others."""
    v1_files: NotRequired[dict[str, int]]
    """The `file_ids` of v1: file id → when the file was added (Unix s)."""
    v1_store: NotRequired[str | None]
    """The vector store that was made for them."""


class RunProgress(TypedDict, total=False):
    """What a run's row keeps for the run's continuation."""

    next_event: int
    """No event of the run has this number or a higher one."""
    exchange_bytes: int
    """Bytes of its calls and outputs so far, as JSON."""
    memory: int
    """Bytes of its history in memory."""
    cached_tokens: int
    """Tokens of its prompts that the model had cached."""
    submitted: dict[str, str] | None
    """Outputs by call id that were acknowledged, until the graph has them."""


class RunPrivate(RunProgress):
    """Of a run."""

    tools: list[JsonObject]
    """With the secrets of actions, as they were when the run started."""
    sampling: dict[str, float]
    contents: NotRequired[bool]
    """Whether its events show the texts of passages."""
    unannounced: NotRequired[bool]
    """Whether the event of its cancellation is still missing; see `graphs.cancellation`."""
    client_calls: NotRequired[Literal["pause", "end"]]
    """See `graphs.machine.spec.RunSpec`."""
    key_id: NotRequired[str]
    """The stored API key of the request that started it."""
    vector_store_ids: NotRequired[list[str]]
    """The vector stores that it searches."""


class UsedTokens(TypedDict):
    """Tokens, as on the wire."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class StepPrivate(TypedDict, total=False):
    """Of a run step."""

    usage: UsedTokens
    """Tokens of a step that has not ended: its body shows them at the end."""
    contents: dict[str, list[JsonObject]]
    """The texts of the passages of its searches, by call id."""


class ItemPrivate(TypedDict, total=False):
    """Of an item of a thread."""

    step_id: str
    """The run step of its call."""
    upstream_id: str
    """The id that the model's server gave the call."""
    extra_fields: str
    """What the engine requires back with the calls of the reply; see `chains.extra_fields`."""


class FilePrivate(TypedDict, total=False):
    """Of a file."""

    sha256: str


class UploadPrivate(TypedDict):
    """Of an upload."""

    parts: dict[str, int]
    """Part id → size in bytes."""
    mime_type: str
    file_lifetime_s: int | None
    completed_of: NotRequired[str]
    """The hash of the part ids that completed it."""
