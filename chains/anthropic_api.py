"""How Anthropic's API and `langchain-anthropic` differ from those of other providers.

Invariant: the connections belong to this object, which closes them.
"""

from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar

from langchain_core.language_models import BaseChatModel

from chains.chat_types import ModelEntry, ModelKeywords
from chains.provider_api import ProviderApi, choice_name
from chains.reply_call import ReplyCall
from wire.model_options import ModelOptions

__all__ = ["AnthropicApi"]


class AnthropicApi(ProviderApi):
    """Anthropic as a provider of `threadhold.toml`."""

    default_url: ClassVar[str | None] = "https://api.anthropic.com"
    needs_key: ClassVar[bool] = True
    sample_model: ClassVar[str] = "claude"
    lists_models: ClassVar[bool] = True
    retries_itself: ClassVar[bool] = False
    reports_finish: ClassVar[bool] = True

    _client: Any = None  # an AsyncAnthropic, whose package is optional

    def keywords(self) -> ModelKeywords:
        """Return further arguments of ChatAnthropic."""
        return {"max_retries": 0, "timeout": self.idle_s, "stream_usage": True}

    def connect(self, chat: BaseChatModel) -> None:
        """Give the model a client that this object owns.

        The model's own client would share a pool between event loops, never be closed, and send the headers in
        ANTHROPIC_CUSTOM_HEADERS.
        """
        if self._client is None:
            anthropic = import_module("anthropic")
            self._client = anthropic.AsyncAnthropic(
                api_key=self.key,
                base_url=self.url,
                timeout=self.idle_s,
                max_retries=0,  # `Provider.follow` retries
            )
            self._client._custom_headers = {}  # noqa: SLF001
        chat.__dict__["_async_client"] = self._client

    def options(self, chat: BaseChatModel, given: ModelOptions) -> ModelKeywords:
        """Return the options within Anthropic's bounds."""
        options = super().options(chat, given)
        if given.temperature is not None:
            options["temperature"] = min(given.temperature, 1.0)  # the maximum
            options.pop("top_p", None)  # newer models refuse both together
        return options

    def tool_options(self, call: ReplyCall) -> ModelKeywords | None:
        """Return how the model can call functions. They are sent even if it must not; the history can have calls."""
        if not call.tools:
            return None
        if call.tool_choice == "none":
            return {"tool_choice": {"type": "none"}}
        return {"tool_choice": choice_name(call.tool_choice), "parallel_tool_calls": call.parallel_tool_calls}

    async def list_models(self) -> list[ModelEntry]:
        """Return the entries of Anthropic's models, after a model was created. Raises errors of its library."""
        page = await self._client.models.list(limit=1000)
        entries: list[ModelEntry] = []
        for one in page.data:
            entry: ModelEntry = {"id": one.id, "object": "model", "created": 0}
            with suppress(AttributeError, ValueError):
                entry["created"] = int(one.created_at.timestamp())
            if type(limit := getattr(one, "max_input_tokens", None)) is int:
                entry["max_context_length"] = limit
            entries.append(entry)
        return entries

    async def close(self) -> None:
        """Close the client."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
