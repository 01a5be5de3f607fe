"""Parses an upstream's address: the URLs of its API, the host's name in messages, and its dialect.

No model name is examined here: the host alone decides what is sent, and where.
"""

import base64
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, TypedDict
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from chains.redaction import redact, spellings
from telemetry.masking import public_url, url_secrets
from wire.errors import InvalidSetting

__all__ = ["Endpoint", "parse_endpoint", "proxy_for"]

_COMPLETIONS: Final = "/chat/completions"
_OPENAI_HOSTS: Final = ("openai.com", "azure.com")


class EndpointNames(TypedDict):
    """How errors name an endpoint: its host, and the settings that hold its address and its key."""

    host: str
    url: str
    key: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible upstream. `host` is safe to show; `redact` removes the key and the secrets of its URL.

    `setting` and `key_setting` name the sources of its address and key, for messages that advise a correction.
    """

    base: str
    query: str = field(repr=False)
    host: str
    secret: str | None = field(repr=False, default=None)
    basic: str | None = field(repr=False, default=None)
    url_secrets: tuple[str, ...] = field(repr=False, default=())
    setting: str = "MODEL_URL"
    key_setting: str = "MODEL_API_KEY"

    @property
    def completions(self) -> str:
        """The URL of `/chat/completions`."""
        return self.at(_COMPLETIONS)

    @property
    def embeddings(self) -> str:
        """The URL of `/embeddings`."""
        return self.at("/embeddings")

    @property
    def models(self) -> str:
        """The URL of `/models`."""
        return self.at("/models")

    def props(self, model: str) -> str:
        """The URL of llama.cpp's `/props`, which is next to `/v1`; `model` is for servers with several models."""
        return f"{self.base.removesuffix('/v1')}/props?{urlencode({'model': model})}"

    @property
    def is_openai(self) -> bool:
        """Whether the host expects `max_completion_tokens`, while all others expect `max_tokens`."""
        name = urlsplit(self.base).hostname or ""
        return any(name == host or name.endswith(f".{host}") for host in _OPENAI_HOSTS)

    @property
    def named(self) -> EndpointNames:
        """Keyword arguments for `chains.error_responses.explain`."""
        return {"host": self.host, "url": self.setting, "key": self.key_setting}

    def headers(self) -> dict[str, str]:
        """The credentials to send."""
        if self.secret is None:
            return {"Authorization": f"Basic {self.basic}"} if self.basic else {}
        keyed = {"Authorization": f"Bearer {self.secret}"}
        return {**keyed, "api-key": self.secret} if "azure.com" in self.host else keyed

    def redact(self, text: str) -> str:
        """Remove the secrets from a text that the upstream wrote."""
        return redact(text, self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts to remove from everything that is shown or passed on (see `chains.redaction`)."""
        return spellings((self.secret, self.basic, *self.url_secrets))

    def at(self, path: str) -> str:
        """The URL of a path of OpenAI's API, such as `/embeddings`."""
        return f"{self.base}{path}{self.query}"


def parse_endpoint(url: str, api_key: str | None, *, upstream: str = "") -> Endpoint:
    """Parse a URL with or without scheme, `/v1`, `/chat/completions` and trailing slash.

    `upstream` is the NAME of an `[upstreams.NAME]`, empty for MODEL_URL. Without any path `/v1` is added.
    Raises InvalidSetting if it is no http(s) URL.
    """
    spelled = url.strip()
    setting, key_setting = "MODEL_URL", "MODEL_API_KEY"
    if upstream:
        setting, key_setting = (f"`{key}` of [upstreams.{upstream}]" for key in ("url", "api_key"))
    refused = InvalidSetting(
        f"{setting if upstream else '`MODEL_URL`'} must be an http or https URL, got '{public_url(spelled)}'. Write an "
        "address such as http://127.0.0.1:8080/v1."
    )
    try:
        parts = urlsplit(spelled if "://" in spelled else f"http://{spelled}")
        port, name = parts.port, parts.hostname
    except ValueError:
        raise refused from None
    if parts.scheme not in ("http", "https") or not name:
        raise refused
    path = parts.path.rstrip("/")
    if path.endswith(_COMPLETIONS):
        path = path.removesuffix(_COMPLETIONS)
    elif not path:
        path = "/v1"
    host = f"[{name}]" if ":" in name else name
    host = f"{host}:{port}" if port else host
    basic = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        basic = base64.b64encode(pair.encode()).decode()
    query = f"?{parts.query}" if parts.query else ""
    base = urlunsplit((parts.scheme, host, path, "", ""))
    secret = api_key or None
    return Endpoint(base, query, host, secret, basic, tuple(url_secrets(spelled)), setting, key_setting)


def proxy_for(url: str) -> str | None:
    """Return the proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name for a URL, or None.

    Loopback addresses never use a proxy. The variables are read here and not by aiohttp (`trust_env`), which would also
    read `~/.netrc` from disk at every request. Like `SSL_CERT_FILE`, they are settings of the libraries, not
    ours.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    if _is_loopback(name) or proxy_bypass(f"{name}:{parts.port}" if parts.port else name):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
