"""`threadhold serve`: opens the port, logs the configuration and the address, and serves until a signal.

Invariants: unsafe settings are refused before the port is open. A requested stop exits with code 0.
"""

import logging
import signal
import sys
from typing import TYPE_CHECKING

from api.connection_limit import limit_connections
from api.serving import open_port, serve
from ops.factories import Factories, ServerSettings
from telemetry.log import open_log
from telemetry.masking import public_url

if TYPE_CHECKING:  # takes a second to import
    from chains import ModelRouter

__all__ = ["start"]

logger = logging.getLogger("threadhold")


def start(settings: ServerSettings, factories: Factories) -> None:
    """Serve. Raises ThreadholdError or OSError if the server cannot start."""
    settings.check()
    with open_log(
        sys.stderr,
        level=settings.log_level,
        style=settings.log_format,
        content=settings.log_content,
        secrets=settings.secrets,
    ):
        _start(settings, factories)


def _start(settings: ServerSettings, factories: Factories) -> None:
    listening = open_port(settings.host, settings.port)
    url = f"http://{_browsable(settings.host)}:{listening.getsockname()[1]}"
    # uvicorn raises the signals that stopped it again at its end; a requested stop is not a failure.
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, lambda *_: sys.exit(0))
    logger.info("threadhold %s starts", factories.version)
    _announce(settings)
    serve(
        lambda: factories.app(settings),
        listening,
        connection_limit=limit_connections(settings.max_connections),
        drain_s=settings.drain_s,
        version=factories.version,
        ready=lambda app: _announce_ready(url, _models(settings, app.state.deps.upstream)),
    )


def _browsable(host: str) -> str:
    """Return the host for a URL that a browser on this machine can open: browsers open no wildcard address."""
    if host in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _announce_ready(url: str, models: str) -> None:
    """Log the last lines of a start: the addresses of the page and the API, and the default model."""
    logger.info("page: %s/", url)
    logger.info("API base: %s/v1 (documentation: %s/docs)", url, url)
    logger.info("model: %s", models)


def _models(settings: ServerSettings, router: "ModelRouter") -> str:
    """Describe the model that answers if a request does not name one."""
    from chains.gguf import DEMO_NOTE

    if settings.default_model:
        return settings.default_model
    if settings.model_url:
        return f"the first that {public_url(settings.model_url)} lists"
    if settings.upstreams and settings.model_path is None:
        return ", ".join(f"{name}/…" for name in settings.upstreams)
    names = router.upstreams[0].names()
    if not names:
        return "none; the warning above says what to do"
    if settings.model_path is None:
        return f"{names[0]}, {DEMO_NOTE}"
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _announce(settings: ServerSettings) -> None:
    """Log the configuration, and the settings that are not used."""
    for warning in settings.ignored_entries:
        logger.warning(warning)
    if settings.unused:
        logger.warning("%s: not built yet, and not used", ", ".join(settings.unused))
    if settings.model_url:
        logger.info("models: %s", public_url(settings.model_url))
        if settings.model_path is not None:
            logger.warning("MODEL_PATH is not used, as MODEL_URL is set")
    for name, one in settings.upstreams.items():
        logger.info("models: %s/… at %s", name, public_url(one.url) or one.provider)
    logger.info("store: %s", settings.database.name)
