"""Makes the upstreams that the settings name, for every kind of API."""

from typing import Protocol

from chains.calls import ToolCalls
from chains.model_router import RoutedUpstream
from chains.prompts import Prompts
from chains.provider import Provider
from chains.reply import OpenAIBackend
from chains.transport import CallLimits
from chains.upstream import Upstream

__all__ = ["UpstreamConfig", "build_upstream"]


class UpstreamConfig(Protocol):
    """The settings of a named upstream, which docs/settings.md describes. An empty value means that it is not set."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def provider(self) -> str: ...
    @property
    def tool_calls(self) -> ToolCalls | None: ...


def build_upstream(
    name: str,
    given: UpstreamConfig,
    *,
    tool_calls: ToolCalls,
    prompts: Prompts,
    limits: CallLimits,
    max_reply_tokens: int | None,
) -> RoutedUpstream:
    """Return the upstream, without connecting. `tool_calls` applies if the upstream's own is None.

    Raises ThreadholdError if the URL is invalid.
    """
    key = given.api_key or None
    if given.provider == "openai":
        upstream = Upstream(given.url, api_key=key, limits=limits, name=name, max_reply_tokens=max_reply_tokens)
        backend = OpenAIBackend(upstream, tool_calls=given.tool_calls or tool_calls, prompts=prompts)
        return RoutedUpstream(name, upstream, backend, given.models)
    provider = Provider(
        name,
        given.provider,
        url=given.url or None,
        api_key=key,
        models=given.models,
        limits=limits,
        max_reply_tokens=max_reply_tokens,
        prompts=prompts,
    )
    return RoutedUpstream(name, provider, provider, given.models)
