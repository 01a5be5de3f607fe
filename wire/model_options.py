"""The options of a model call that assistants and runs can set: sampling and reasoning. Pure.

Invariant: no other file of this package lists them. A new option is a field of `ModelOptions`, of the requests that
accept it and of the objects that show it, all in this file. The model call sends every field of `ModelOptions`.

Objects show 1.0 for sampling options that are not set, as OpenAI does. Sending 1.0 to the upstream would override its
model's defaults, so the ones that were set are stored separately. The other options are null in objects if not set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Final, cast

from pydantic import Field
from typing_extensions import TypedDict

from wire.field_markers import FieldMarker
from wire.json import JsonObject
from wire.tools import ReasoningEffort, ResponseFormat
from wire.validation import Request

__all__ = [
    "NO_OPTIONS",
    "NO_REASONING",
    "OPTIONS",
    "UNKNOWN_SAMPLING",
    "UNSET_SAMPLING",
    "CommonOptions",
    "ModelOptions",
    "ReasoningOptions",
    "ReasoningShown",
    "RunSampling",
    "SamplingShown",
    "apply_reasoning",
    "apply_sampling",
    "requested_sampling",
    "run_options",
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The options of one model call. None leaves an option to the upstream."""

    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None

    def named(self) -> dict[str, object]:
        """Return the options that are set, by their names in OpenAI's `/chat/completions`."""
        named: dict[str, object] = {}
        for name in _NAMES:
            if (value := getattr(self, name)) is not None:
                named[name] = value
        return named


NO_OPTIONS: Final = ModelOptions()
"""All options are left to the upstream."""

_NAMES: Final = tuple(field.name for field in fields(ModelOptions))

OPTIONS: Final = frozenset(_NAMES)
"""The names of all options."""

# --- requests ---------------------------------------------------------------------------------------------------------


class CommonOptions(Request):
    """Fields of every request for an assistant or a run."""

    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, ge=0.0, le=1.0)
    response_format: ResponseFormat | None = None


class ReasoningOptions(Request):
    """Fields of the same requests, except the one that creates a thread with its run: OpenAI refuses them there."""

    reasoning_effort: ReasoningEffort | None = None


# --- objects ----------------------------------------------------------------------------------------------------------


class SamplingShown(TypedDict):
    """Fields of assistants."""

    temperature: Annotated[float, FieldMarker.ADDED_IN_V2]
    top_p: Annotated[float, FieldMarker.ADDED_IN_V2]


class RunSampling(TypedDict):
    """The same fields of runs. Imported runs can lack their values."""

    temperature: float | None
    top_p: Annotated[float | None, FieldMarker.ADDED_IN_V2]


class ReasoningShown(TypedDict):
    """Fields of assistants and runs."""

    reasoning_effort: Annotated[str | None, FieldMarker.ADDED_IN_V2]


UNSET_SAMPLING: Final[SamplingShown] = {"temperature": 1.0, "top_p": 1.0}
"""What objects show for sampling options that are not set."""

UNKNOWN_SAMPLING: Final = cast("RunSampling", dict.fromkeys(UNSET_SAMPLING))
"""What imported runs show for sampling options that their dump lacks."""

NO_REASONING: Final = cast("ReasoningShown", dict.fromkeys(ReasoningShown.__annotations__))
"""What objects show for reasoning options that are not set."""

_REASONING: Final = tuple(ReasoningOptions.model_fields)


def apply_sampling(
    request: CommonOptions | ModelOptions, inherited: Mapping[str, object] = UNSET_SAMPLING
) -> SamplingShown:
    """Return the fields of a new object: the request's, else those of `inherited`, the assistant of a new run.

    The request of a run without an assistant is its options. Assistants of earlier versions can lack a field.
    """
    shown: dict[str, object] = {}
    for name, unset in UNSET_SAMPLING.items():
        value = getattr(request, name)
        shown[name] = inherited.get(name, unset) if value is None else value
    return cast("SamplingShown", shown)


def apply_reasoning(request: Request | ModelOptions, inherited: Mapping[str, object] | None = None) -> ReasoningShown:
    """Return the fields of a new object: the request's, if it has them, else those of the assistant, if there is one.

    The request of a run without an assistant is its options. Assistants of earlier versions can lack a field.
    """
    shown: dict[str, object] = {}
    for name in _REASONING:
        value = getattr(request, name) if isinstance(request, ReasoningOptions | ModelOptions) else None
        shown[name] = inherited.get(name) if value is None and inherited is not None else value
    return cast("ReasoningShown", shown)


# --- the model call ---------------------------------------------------------------------------------------------------


def requested_sampling(request: CommonOptions | ModelOptions) -> dict[str, float]:
    """Return the sampling options that the request, or a run without an assistant, sets."""
    requested: dict[str, float] = {}
    for name in UNSET_SAMPLING:
        if (value := getattr(request, name)) is not None:
            requested[name] = value
    return requested


def run_options(run: Mapping[str, object], sampling: Mapping[str, float]) -> ModelOptions:
    """Return the options of a run's model calls: `sampling` has those that were set, the run's object the others.

    Runs of earlier versions can lack a field.
    """
    given: JsonObject = {**sampling}
    for name in _REASONING:
        given[name] = run.get(name)
    return ModelOptions(**given)
