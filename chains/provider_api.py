"""How a provider's LangChain models are created, and the form in which they take the options and functions of a call.

`ProviderApi` is for every provider that LangChain supports. A provider that differs has a subclass in its own file, and
an entry in `chains.provider`.

Invariants: keys and addresses come from `threadhold.toml` only, never from the environment; the provider's package is
optional and imported at its first use.
"""

from importlib import import_module
from typing import ClassVar

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from chains.chat_types import ModelEntry, ModelKeywords, NamedFunction
from chains.reply_call import ReplyCall
from wire.errors import UpstreamFailed
from wire.model_options import ModelOptions

__all__ = ["ProviderApi", "choice_name"]


class ProviderApi:
    """One provider of `threadhold.toml`."""

    default_url: ClassVar[str | None] = None
    """None: the provider's library supplies the address."""
    needs_key: ClassVar[bool] = False
    sample_model: ClassVar[str] = "any"
    """A model's name with which a LangChain model can be created if no name is known."""
    lists_models: ClassVar[bool] = False
    retries_itself: ClassVar[bool] = True
    """Whether the provider's library retries failed calls."""
    reports_finish: ClassVar[bool] = False
    """Whether every whole answer has a finish reason."""

    def __init__(self, name: str, provider: str, *, url: str | None, key: str | None, idle_s: float) -> None:
        """`name` is the upstream's, `provider` is LangChain's name of the provider."""
        self.host = f"`{name}` ({provider})"
        """The provider's name in error messages."""
        self.setting = f"[upstreams.{name}]"
        self.provider = provider
        self.url = url or self.default_url
        self.key = key
        self.idle_s = idle_s

    # --- what differs ---------------------------------------------------------------------------------------------

    def keywords(self) -> ModelKeywords:
        """Return further arguments of the model's class."""
        return {}

    def connect(self, chat: BaseChatModel) -> None:
        """Prepare a new model's connection."""

    def options(self, chat: BaseChatModel, given: ModelOptions) -> ModelKeywords:
        """Return the options as the model takes them."""
        options: ModelKeywords = given.named()
        effort = options.pop("reasoning_effort", "none")
        if effort != "none" and "reasoning_effort" in type(chat).model_fields:
            options["reasoning_effort"] = "low" if effort == "minimal" else effort
        return options

    def tool_options(self, call: ReplyCall) -> ModelKeywords | None:
        """Return how the model can call the functions; None if none are offered to it. None values are not sent."""
        if not call.tools or call.tool_choice == "none":
            return None
        return {"tool_choice": choice_name(call.tool_choice)}

    async def list_models(self) -> list[ModelEntry]:
        """Return the entries of the provider's models, after a model was created. Raises what its library raises."""
        raise UpstreamFailed(f"{self.host} lists no models. Name them in `models` of {self.setting}.")

    async def close(self) -> None:
        """Close the connections that belong to this object, if any."""

    # --- models ---------------------------------------------------------------------------------------------------

    def make(self, model: str) -> BaseChatModel:
        """Return the LangChain model of that name. Imports the provider's package, so it can take seconds.

        Raises:
            UpstreamFailed: the package or the key is missing, or the library refuses the name.
        """
        if self.needs_key and not self.key:
            raise UpstreamFailed(f"{self.host} has no key. Set `api_key` in {self.setting} of threadhold.toml.")
        given: ModelKeywords = {"api_key": self.key, "base_url": self.url, **self.keywords()}
        given = {name: value for name, value in given.items() if value is not None}
        try:
            init = import_module("langchain.chat_models").init_chat_model
            chat: BaseChatModel = init(model, model_provider=self.provider, **given)
            self.connect(chat)
        except ImportError as error:
            raise UpstreamFailed(self._missing(error)) from error
        except Exception as error:
            # Foreign code: a provider's constructor raises its own errors (no key, an unknown name) with the reason.
            raise UpstreamFailed(f"{self.host} cannot be set up: {' '.join(str(error).split())[:500]}") from error
        self._check_keys(chat)
        return chat

    def _check_keys(self, chat: BaseChatModel) -> None:
        """Refuse a key that the provider's library took from the environment."""
        for name in type(chat).model_fields:
            secret = getattr(chat, name, None)
            if isinstance(secret, SecretStr) and secret.get_secret_value() not in ("", self.key):
                raise UpstreamFailed(
                    f"{self.host} would take `{name}` from the environment, but Threadhold takes keys from "
                    f"threadhold.toml only. Set `api_key` in {self.setting}."
                )

    def _missing(self, error: ImportError) -> str:
        cause = error.__cause__
        module = (getattr(cause, "name", None) or getattr(error, "name", None) or "").partition(".")[0]
        package = module.replace("_", "-") or f"langchain-{self.provider.replace('_', '-')}"
        return f"{self.host} needs the package {package}: .venv/bin/python -m pip install {package}, then start again."


def choice_name(choice: str | NamedFunction | None) -> str | None:
    """Return a `tool_choice` other than `none` in LangChain's form."""
    if isinstance(choice, dict):
        return choice.get("function", {}).get("name")
    return "any" if choice == "required" else None
