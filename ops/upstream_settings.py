"""Defines the settings of one `[upstreams.NAME]` of threadhold.toml, and checks keys that are sent in headers."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wire.lists import is_sendable

__all__ = ["ToolCalls", "UpstreamSettings", "sendable"]

ToolCalls = Literal["auto", "native", "schema", "prompt"]  # as in chains.calls, which takes long to import


class UpstreamSettings(BaseModel):
    """One `[upstreams.NAME]` of threadhold.toml. Unknown keys are refused: a typing error would go unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "", description="Address, as MODEL_URL. Required for the provider `openai`. Others have a default address."
    )
    api_key: str = Field(
        "",
        description="Key for the address. It is never read from variables such as `ANTHROPIC_API_KEY`.",
        repr=False,
    )
    models: tuple[str, ...] = Field(
        (), description="Models that can be used. Without it, those that the upstream lists."
    )
    provider: str = Field(
        "openai",
        description=(
            "`openai` is any server with `/chat/completions`. `anthropic` and every other name that LangChain's "
            "`init_chat_model` knows need their package; `/ready` names the command that installs it."
        ),
    )
    tool_calls: ToolCalls | None = Field(
        None, description="As TOOL_CALLS, for this upstream. Only for the provider `openai`."
    )

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        return sendable(value)

    @model_validator(mode="after")
    def _fits_its_provider(self) -> Self:
        if self.provider == "openai" and not self.url:
            raise ValueError("`url` is missing. Write an OpenAI-compatible address, or another `provider`.")
        if self.provider != "openai" and self.tool_calls:
            raise ValueError(
                "`tool_calls` is for OpenAI-compatible upstreams only. Remove it: other providers are native."
            )
        return self


def sendable(key: str) -> str:
    """Return a key without white space around it. Raises ValueError if it cannot be sent."""
    key = key.strip()
    if not is_sendable(key):
        raise ValueError(
            "it has spaces or characters that HTTP headers cannot carry. Use ASCII letters, digits and punctuation."
        )
    return key
