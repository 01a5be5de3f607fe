"""Client requests that are forwarded to an upstream: a path of OpenAI's API, and a JSON body or a multipart form.

A form is stored on disk: its model can be anywhere in it, its length is known, and it can be sent again.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wire.assistants import MAX_MODEL_NAME
from wire.errors import InvalidRequest, NotFound

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "EMBEDDINGS",
    "GENERATING",
    "PROMPT_FIELDS",
    "Body",
    "Form",
    "Outgoing",
    "model_of",
    "not_served",
    "require_prompt",
    "with_model",
]

CHAT: Final = "/chat/completions"
COMPLETIONS: Final = "/completions"
EMBEDDINGS: Final = "/embeddings"

GENERATING: Final = frozenset({CHAT, COMPLETIONS})
"""Paths that generate text: the default model, `*` of MODEL_ALIASES and MAX_REPLY_TOKENS apply to them only."""

PROMPT_FIELDS: Final = {CHAT: "messages", COMPLETIONS: "prompt", EMBEDDINGS: "input"}
"""Paths whose prompt can be longer than a model's context, and the field that holds it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request body that is read while it is sent. `size` is in bytes; `blocks` starts from the first byte."""

    content_type: str
    size: int
    blocks: Callable[[], AsyncIterator[bytes]]


class Form(Protocol):
    """A client's multipart form."""

    @property
    def model(self) -> str:
        """The value of the field `model`; empty without one."""
        ...

    def encode(self, model: str) -> Outgoing:
        """Return the form with this `model`; without the field if it is empty."""
        ...


Body = dict[str, object] | Form
"""A request body: a JSON object, or a form."""


def model_of(body: Body) -> str:
    """Return the model that a request names; empty without one. Raises InvalidRequest if it is not a valid name."""
    model = body.get("model") or "" if isinstance(body, dict) else body.model
    if not isinstance(model, str):
        raise InvalidRequest("`model` must be a string.", param="model", code="invalid_type")
    if len(model) > MAX_MODEL_NAME:
        message = f"`model` has {len(model)} characters; at most {MAX_MODEL_NAME} are allowed."
        raise InvalidRequest(message, param="model", code="string_above_max_length")
    return model


def require_prompt(body: dict[str, object], path: str) -> None:
    """Raise InvalidRequest, in OpenAI's words, for a request without the field that holds its prompt."""
    name = PROMPT_FIELDS[path]
    if body.get(name) is None:
        message = f"Missing required parameter: '{name}'."
        raise InvalidRequest(message, param=name, code="missing_required_parameter")


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A form with another model's name."""

    form: Form
    model: str

    def encode(self, model: str) -> Outgoing:
        return self.form.encode(model)


def with_model(body: Body, model: str) -> Body:
    """Return the request with this model; unchanged if the model is empty."""
    if not model:
        return body
    return {**body, "model": model} if isinstance(body, dict) else _Renamed(body, model)


def not_served(path: str, upstream: str) -> NotFound:
    """Return the error for a path that the upstream does not serve, with the settings that add it."""
    return NotFound(
        f"{upstream} does not serve `{path}`. Set MODEL_URL to a server that does, or add one as [upstreams.NAME] and "
        "name its models `NAME/model`.",
        code="unknown_url",
    )
