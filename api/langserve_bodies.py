"""Checks the bodies of LangServe's requests before LangServe reads them. Does not import LangServe.

Invariant: an invalid body gets 400 in OpenAI's shape, which names the parameter, its position in a batch, and the
allowed names. LangServe itself drops unknown keys, and answers 500 to a batch with one invalid input.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, Generic, TypeVar, get_args

from fastapi import Request
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from api.body_threads import LARGE, work_on_body
from wire.errors import InvalidRequest
from wire.validation import MAX_EXPLAINED, explain
from wire.validation_errors import first_error, list_errors

__all__ = ["body_check", "check_config_hash"]

_MAX_INPUTS: Final = 200
"""Inputs of one batch. LangServe prepares all of them on the event loop before it processes the first one."""

_MAX_HASH: Final = 2_048
"""Characters of a configuration in a URL. The playgrounds' own have at most a few hundred. Compressed data can expand
to about the square of its length, here less than 2 MB."""

Input = TypeVar("Input", bound=BaseModel)


class Config(BaseModel):
    """The fields that every runnable's config has. LangServe checks the fields of `configurable`."""

    configurable: dict[str, object] | None = None


# The alternatives are distinguished first, so that an error names the path within the intended one.
Configs = Annotated[
    Annotated[Config, Tag("~one")] | Annotated[list[Config], Field(max_length=_MAX_INPUTS), Tag("~each")],
    Discriminator(lambda value: "~each" if isinstance(value, list) else "~one"),
]


class _Call(BaseModel, Generic[Input]):
    """Body of `/invoke` and the streams. Streams have more fields; LangServe checks these and the fields of `config`.

    LangServe ignores `kwargs`. LangChain.js sends them as an object, and as an array in batches.
    """

    input: Input
    config: Config = Field(default_factory=Config)
    kwargs: object = None


class _Batch(BaseModel, Generic[Input]):
    """Body of `/batch`."""

    inputs: Annotated[list[Input], Field(max_length=_MAX_INPUTS)]
    config: Configs = Field(default_factory=Config)
    kwargs: object = None


def body_check(schema: type[BaseModel]) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses a body whose inputs are not of `schema`. It raises InvalidRequest."""
    one: type[BaseModel] = _Call[schema]  # type: ignore[valid-type]
    several: type[BaseModel] = _Batch[schema]  # type: ignore[valid-type]

    async def check(request: Request) -> None:
        if request.method != "POST":
            return
        model = several if request.url.path.endswith("/batch") else one
        data = await request.json()  # the request keeps it for LangServe
        size = len(await request.body())
        if size > LARGE:
            await work_on_body(size, _validate, model, data)
        else:
            _validate(model, data)

    return check


async def check_config_hash(request: Request) -> None:
    """Refuse an address with more configuration than LangServe can unpack quickly. Raises InvalidRequest."""
    length = len(request.path_params.get("config_hash", ""))
    if length > _MAX_HASH:
        raise InvalidRequest(
            f"Invalid 'config_hash': string too long. Expected a string with maximum length {_MAX_HASH}, but got a "
            f"string with length {length} instead. Send the configuration in the body, as 'config'.",
            param="config_hash",
            code="string_above_max_length",
        )


def _validate(model: type[BaseModel], data: object) -> None:
    try:
        model.model_validate(data)
    except ValidationError as error:
        raise _refusal(list_errors(model, data, error, MAX_EXPLAINED).errors, model) from None


def _refusal(errors: Sequence[ErrorDetails], model: type[BaseModel]) -> InvalidRequest:
    first = first_error(errors)  # a misspelt name is both unknown and missing
    problem = explain([first])
    if first["type"] not in ("missing", "extra_forbidden"):
        return problem
    names = ", ".join(f"'{name}'" for name in _names_at(model, first["loc"][:-1]))
    return InvalidRequest(f"{problem.message} Allowed here: {names}.", param=problem.param, code=problem.code)


def _names_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the names of the fields that the object at this location can have."""
    for part in loc:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            inner = (each for each in (annotation, *get_args(annotation)) if isinstance(each, type))
            model = next(each for each in inner if issubclass(each, BaseModel))
    return list(model.model_fields)
