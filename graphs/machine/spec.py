"""What a run is to do, as one frozen value: everything that its nodes read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["RunSpec"]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Made once when a run is taken up. It needs no stored assistant and no stored thread."""

    id: str
    """The run's id, from which the ids of its messages, steps and calls are derived."""
    model: str
    """As the client named it: aliases and upstreams are resolved where it is called."""
    instructions: str = ""
    truncation: Mapping[str, Any] = field(default_factory=lambda: {"type": "auto"})
    """OpenAI's `truncation_strategy`."""
    tool_choice: str | Mapping[str, Any] = "auto"
    parallel_tool_calls: bool = True
    response_format: str | Mapping[str, Any] = "auto"
    reasoning_effort: str | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    """The sampling parameters that were asked for; others are left to the upstream."""
    max_prompt_tokens: int | None = None
    """Of all prompts of the run together, as OpenAI counts; None is no limit."""
    max_completion_tokens: int | None = None
    """Of all replies of the run together; None is no limit."""
    max_tool_rounds: int = 20
    """Replies that may call tools; the one after them is made without."""

    @classmethod
    def of_run(cls, run: Mapping[str, Any], *, sampling: Mapping[str, float], max_tool_rounds: int) -> Self:
        """Return the spec of a run's wire object. Rows of older versions can lack the newer fields."""
        return cls(
            id=run["id"],
            model=run["model"],
            instructions=run["instructions"],
            truncation=run["truncation_strategy"],
            tool_choice=run["tool_choice"],
            parallel_tool_calls=run["parallel_tool_calls"],
            response_format=run["response_format"],
            reasoning_effort=run.get("reasoning_effort"),
            sampling=sampling,
            max_prompt_tokens=run["max_prompt_tokens"],
            max_completion_tokens=run["max_completion_tokens"],
            max_tool_rounds=max_tool_rounds,
        )
