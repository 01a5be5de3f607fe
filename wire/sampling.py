"""Which sampling parameters were really asked for. Objects show 1.0 where none was, as OpenAI's do; sending that on
would override the defaults of the upstream's own model, so what was asked for is remembered apart."""

from wire.assistants import AssistantCreate, AssistantModify
from wire.runs import RunCreate, ThreadRunCreate

__all__ = ["sampling"]


def sampling(request: AssistantCreate | AssistantModify | RunCreate | ThreadRunCreate) -> dict[str, float]:
    """Return the given ones of `temperature` and `top_p`."""
    asked = {"temperature": request.temperature, "top_p": request.top_p}
    return {name: value for name, value in asked.items() if value is not None}
