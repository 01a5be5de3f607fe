"""The shapes of OpenAI's chat completions, as this package builds them and passes them on. No code.

What a client or a server sends is unchecked: it is a `Mapping[str, object]` until the reader of its parts has narrowed
them. These shapes are for objects whose members are known, because this package built or checked them.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

__all__ = [
    "Answer",
    "AnswerChoice",
    "AnswerChunk",
    "AnswerDelta",
    "AnswerHead",
    "AnswerMessage",
    "CallDelta",
    "CallFunction",
    "CalledFunction",
    "ChatRequest",
    "Chunk",
    "ChunkChoice",
    "Delta",
    "FunctionName",
    "FunctionSpec",
    "FunctionTool",
    "JsonSchema",
    "MessageContent",
    "ModelDetails",
    "ModelEntry",
    "ModelKeywords",
    "NamedFunction",
    "PromptTokenDetails",
    "RequestCall",
    "RequestMessage",
    "ResponseFormat",
    "SchemaFormat",
    "Sent",
    "TokenCounts",
    "WholeCall",
]

JsonSchema: TypeAlias = dict[str, object]
"""A JSON Schema that is an object. Clients write it, so any keyword can have any value."""

ModelKeywords: TypeAlias = dict[str, Any]
"""Keyword arguments for a LangChain model. They are untyped because each provider's class has its own."""

MessageContent: TypeAlias = str | list[str | dict[str, object]]
"""The content of a message in LangChain's form: a text, or a list of texts and parts."""


# --- requests ---------------------------------------------------------------------------------------------------------


class FunctionSpec(TypedDict):
    """A function that the model is offered. `parameters` is absent or None if it takes none."""

    name: str
    description: NotRequired[str | None]
    parameters: NotRequired[JsonSchema | None]
    strict: NotRequired[bool | None]


class FunctionTool(TypedDict):
    """An entry of `tools`."""

    type: Literal["function"]
    function: FunctionSpec


class FunctionName(TypedDict, total=False):
    """The `function` of a `tool_choice`."""

    name: str


class NamedFunction(TypedDict, total=False):
    """A `tool_choice` that names the function to call."""

    type: str
    function: FunctionName


class SchemaFormat(TypedDict, total=False):
    """The `json_schema` of a `response_format`."""

    name: str
    description: str
    schema: JsonSchema
    strict: bool | None


class ResponseFormat(TypedDict):
    """A `response_format`: `text`, `json_object`, or `json_schema` with its schema."""

    type: str
    json_schema: NotRequired[SchemaFormat]


class CalledFunction(TypedDict):
    """The function of a whole call; `arguments` is JSON text."""

    name: str
    arguments: str


class RequestCall(TypedDict):
    """A tool call in a message of a request."""

    id: str
    type: str
    function: CalledFunction


class RequestMessage(TypedDict, total=False):
    """A message of a request. It can also have the fields of `chains.extra_fields`, whatever their names."""

    role: str
    content: object
    name: str
    tool_call_id: str
    tool_calls: list[RequestCall]
    reasoning_content: str
    refusal: str


class ChatRequest(TypedDict, total=False):
    """A request to `/chat/completions` for a reply; None means that the field is not sent.

    It also has the fields of `wire.model_options.ModelOptions` that are set.
    """

    model: str
    messages: list[RequestMessage]
    stream: bool
    tools: list[FunctionTool] | None
    tool_choice: str | NamedFunction | None
    parallel_tool_calls: bool | None
    response_format: str | ResponseFormat | None
    max_tokens: int | None


# --- answers ----------------------------------------------------------------------------------------------------------

Sent: TypeAlias = dict[str, Any]
"""A chunk, or a message, a choice or a call in it, as an upstream sent it, unchecked. Checks of every member of every
chunk would slow each token down, so wrong shapes raise TypeError, AttributeError, KeyError or IndexError when they are
read, which the reader reports as one error of the upstream."""


class PromptTokenDetails(TypedDict):
    """A part of the `usage` of an answer."""

    cached_tokens: int


class TokenCounts(TypedDict, total=False):
    """The `usage` of an answer, without its other details."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokenDetails


class CallFunction(TypedDict):
    """A fragment of a call's function."""

    name: str | None
    arguments: str


class CallDelta(TypedDict):
    """A fragment of a tool call; the id and the name come once."""

    index: int
    id: NotRequired[str | None]
    type: Literal["function"]
    function: CallFunction


class Delta(TypedDict):
    """What a chunk adds to the message. `content` is a list if texts of one read are yielded together."""

    role: Literal["assistant"]
    content: str | list[str]
    reasoning_content: NotRequired[str]
    reclassified: NotRequired[bool]
    """Whether all text so far was reasoning without an opening tag; see `chains.reasoning`."""
    threadhold_extra_fields: NotRequired[str]
    """See `chains.extra_fields`."""
    tool_calls: NotRequired[list[CallDelta]]


class ChunkChoice(TypedDict):
    """The only choice of a chunk."""

    index: int
    delta: Delta
    finish_reason: str | None


class WholeCall(TypedDict):
    """A call of a whole answer."""

    id: str | None
    type: Literal["function"]
    function: CallFunction


class AnswerMessage(TypedDict):
    """The message of a whole answer."""

    role: Literal["assistant"]
    content: MessageContent | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[WholeCall]]


class AnswerDelta(TypedDict):
    """What a chunk of an answer adds to its message."""

    role: Literal["assistant"]
    content: MessageContent
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[CallDelta]]


class AnswerChoice(TypedDict):
    """The only choice of an answer: a `message`, or a `delta` in a chunk."""

    index: int
    message: NotRequired[AnswerMessage]
    delta: NotRequired[AnswerDelta]
    logprobs: None
    finish_reason: str | None


class AnswerHead(TypedDict):
    """What all chunks of an answer have in common."""

    id: str
    created: int
    model: str


class AnswerChunk(AnswerHead):
    """A `chat.completion.chunk` for a client."""

    object: Literal["chat.completion.chunk"]
    choices: list[AnswerChoice]


class Answer(AnswerHead):
    """A `chat.completion` for a client, or the last chunk of one."""

    object: Literal["chat.completion", "chat.completion.chunk"]
    choices: list[AnswerChoice]
    usage: TokenCounts | None


class Chunk(TypedDict):
    """A checked `chat.completion.chunk`, with the members that LangChain reads."""

    choices: list[ChunkChoice]
    model: NotRequired[str]
    usage: NotRequired[TokenCounts | None]


# --- models -----------------------------------------------------------------------------------------------------------


class ModelDetails(TypedDict, total=False):
    """What this server adds to a model's entry, as `threadhold`."""

    model: str
    """The name with its upstream."""
    demo: bool
    state: str
    vision: bool
    note: str
    embeddings: bool
    dimensions: int


class ModelEntry(TypedDict):
    """An entry of `/models`. An upstream's has more members, which are passed on; only its `id` has been checked."""

    id: str
    object: NotRequired[object]
    created: NotRequired[object]
    owned_by: NotRequired[object]
    threadhold: NotRequired[ModelDetails]
    context_length: NotRequired[object]
    max_context_length: NotRequired[object]
