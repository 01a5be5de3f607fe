"""Finds the models that the built-in engine can run on this machine."""

import importlib.util
from pathlib import Path
from typing import Final

from chains.engine import OTHER_SERVER_ADVICE
from chains.gguf import Gguf, find_models
from chains.installation import install_command
from wire.errors import UpstreamFailed

__all__ = ["installed_models", "join_names"]

_LIBRARY: Final = "xllamacpp"
_NAMED: Final = 20


def installed_models(path: Path | None) -> dict[str, Gguf]:
    """Return the models by name. Blocks. Raises UpstreamFailed if there is no model, or no engine to run it."""
    try:
        installed = importlib.util.find_spec(_LIBRARY) is not None
    except (ImportError, ValueError):
        installed = False
    if not installed:
        raise UpstreamFailed(
            f"The built-in engine is not installed. Install it with `{install_command()}`, or use another: "
            f"{OTHER_SERVER_ADVICE} (`{_LIBRARY}` has no wheels for some platforms.)"
        )
    return {model.name: model for model in find_models(path)}


def join_names(names: list[str]) -> str:
    """Return model names as text for a sentence; after the first `_NAMED`, only their number."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more
