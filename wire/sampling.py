"""The sampling parameters that a request sets.

Objects show 1.0 for parameters that are not set, as at OpenAI. Sending 1.0 to the upstream would override its model's
defaults, so the parameters that were set are stored separately.
"""

from wire.assistants import AssistantCreate, AssistantModify
from wire.runs import RunCreate, ThreadRunCreate

__all__ = ["sampling"]


def sampling(request: AssistantCreate | AssistantModify | RunCreate | ThreadRunCreate) -> dict[str, float]:
    """Return `temperature` and `top_p`, if they are set."""
    asked = {"temperature": request.temperature, "top_p": request.top_p}
    return {name: value for name, value in asked.items() if value is not None}
