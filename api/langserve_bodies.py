"""Checks the bodies of LangServe's requests before LangServe reads them. Does not import LangServe.

Invariant: a wrong body gets 400 in OpenAI's shape, which names the parameter, its place in a batch, and the names that
are allowed there. LangServe itself drops unknown keys, and answers 500 to a batch with one wrong input.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar, get_args

from fastapi import Request
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError

from wire.errors import InvalidRequest
from wire.validation import explain

__all__ = ["body_check"]

Input = TypeVar("Input", bound=BaseModel)


class Config(BaseModel):
    """The fields that every runnable's config has. LangServe checks the fields of `configurable`."""

    configurable: dict[str, Any] | None = None


# Distinguished first, so that an error names the place within the intended alternative.
Configs = Annotated[
    Annotated[Config, Tag("~one")] | Annotated[list[Config], Tag("~each")],
    Discriminator(lambda value: "~each" if isinstance(value, list) else "~one"),
]


class _Call(BaseModel, Generic[Input]):
    """Body of `/invoke` and the streams, which have more fields; LangServe checks these and what `config` has.

    `kwargs` are ignored by LangServe. LangChain.js sends them as an object, and as an array in batches.
    """

    input: Input
    config: Config = Field(default_factory=Config)
    kwargs: Any = None


class _Batch(BaseModel, Generic[Input]):
    """Body of `/batch`."""

    inputs: list[Input]
    config: Configs = Field(default_factory=Config)
    kwargs: Any = None


def body_check(schema: type[BaseModel]) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses a body whose inputs are not of `schema`. It raises InvalidRequest."""
    one: type[BaseModel] = _Call[schema]  # type: ignore[valid-type]
    several: type[BaseModel] = _Batch[schema]  # type: ignore[valid-type]

    async def check(request: Request) -> None:
        if request.method != "POST":
            return
        model = several if request.url.path.endswith("/batch") else one
        try:
            model.model_validate(await request.json())  # which the request keeps for LangServe
        except ValidationError as error:
            raise _refusal(error, model) from None

    return check


def _refusal(error: ValidationError, model: type[BaseModel]) -> InvalidRequest:
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda each: each["type"] == "missing")  # a misspelt name is both unknown and missing
    problem = explain([first])
    if first["type"] not in ("missing", "extra_forbidden"):
        return problem
    names = ", ".join(f"'{name}'" for name in _names_at(model, first["loc"][:-1]))
    return InvalidRequest(f"{problem.message} Allowed here: {names}.", param=problem.param, code=problem.code)


def _names_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the names of the fields that the object at this place can have."""
    for part in loc:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            inner = (each for each in (annotation, *get_args(annotation)) if isinstance(each, type))
            model = next(each for each in inner if issubclass(each, BaseModel))
    return list(model.model_fields)
