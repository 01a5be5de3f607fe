"""The specification of a run, as one frozen value: everything that its nodes read of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias

from chains.chat_types import NamedFunction, ResponseFormat
from wire.json import JsonObject, JsonView
from wire.model_options import NO_OPTIONS, ModelOptions, run_options

__all__ = ["ClientCalls", "RunSpec", "WireMessage", "WireRun"]

ClientCalls = Literal["pause", "end"]

WireMessage: TypeAlias = JsonView
"""A message's wire object. Its type is in `wire.messages`, which the machine does not import."""

WireRun: TypeAlias = JsonView
"""A run's wire object. Its type is in `wire.runs`, which the machine does not import."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Made once when a process starts or continues a run, or by a caller that starts a run without a stored assistant
    (see `graphs.drafts.SpecRun`)."""

    model: str
    """As the client named it; aliases and upstreams are resolved in the model call."""
    instructions: str = ""
    tools: Sequence[JsonObject] = ()
    """In the form of the API, with the secrets of actions."""
    truncation_strategy: Mapping[str, object] = field(default_factory=lambda: {"type": "auto", "last_messages": None})
    tool_choice: str | NamedFunction = "auto"
    parallel_tool_calls: bool = True
    response_format: str | ResponseFormat = "auto"
    options: ModelOptions = NO_OPTIONS
    max_prompt_tokens: int | None = None
    """The sum over all prompts of the run, as OpenAI counts; None is no limit."""
    max_completion_tokens: int | None = None
    """The sum over all replies of the run; None is no limit."""
    client_calls: ClientCalls = "pause"
    """What calls do that only the client can answer: pause the run until it does, or end the run (as completed). A
    later run of the thread continues with their outputs."""
    id: str = ""
    """The run's id, from which the ids of its messages, steps and calls are derived. Empty until the run is drafted."""
    max_tool_rounds: int = 20
    """Maximum replies with tools; the next one is made without tools. The process that executes the run sets it."""

    @classmethod
    def of_run(
        cls,
        run: WireRun,
        *,
        tools: Sequence[JsonObject],
        sampling: Mapping[str, float],
        max_tool_rounds: int,
        client_calls: ClientCalls = "pause",
    ) -> Self:
        """Return the spec of a run's wire object. `tools` have the secrets that the object masks, `sampling` the
        sampling options that were set."""
        return cls(
            id=run["id"],
            model=run["model"],
            instructions=run["instructions"],
            tools=tools,
            truncation_strategy=run["truncation_strategy"],
            tool_choice=run["tool_choice"],
            parallel_tool_calls=run["parallel_tool_calls"],
            response_format=run["response_format"],
            options=run_options(run, sampling),
            max_prompt_tokens=run["max_prompt_tokens"],
            max_completion_tokens=run["max_completion_tokens"],
            max_tool_rounds=max_tool_rounds,
            client_calls=client_calls,
        )
