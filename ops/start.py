"""`threadhold serve`: opens the port, says what it works with and where it is, and serves until a signal.

Law: what must not be served is refused before the port is open; a stop that was asked for is no failure.
"""

import logging
import signal
import sys
from urllib.parse import urlsplit

from api.door import open_door
from api.serving import open_port, serve
from ops.parts import Configured, Parts
from watch.log import open_log

__all__ = ["start"]

logger = logging.getLogger("threadhold")


def start(settings: Configured, parts: Parts) -> None:
    """Serve. Raises ThreadholdError or OSError for a start that cannot be."""
    settings.check()
    with open_log(
        sys.stderr,
        level=settings.log_level,
        style=settings.log_format,
        content=settings.log_content,
        secrets=settings.secrets,
    ):
        _start(settings, parts)


def _start(settings: Configured, parts: Parts) -> None:
    listening = open_port(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listening.getsockname()[1]}"
    # uvicorn raises the signals that stopped it once more when it is done; a stop that was asked for is no failure.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: sys.exit(0))
    _announce(settings)
    invitation = f"threadhold {parts.version} serves on {url} (documents at {url}/docs); try: curl -s {url}/ready"
    serve(
        lambda: parts.app(settings),
        listening,
        door=open_door(settings.max_connections),
        drain_s=settings.drain_s,
        ready=lambda: logger.info(invitation),
    )


def _announce(settings: Configured) -> None:
    """Say what it works with, and what it does not use."""
    for doubt in settings.doubts:
        logger.warning(doubt)
    if settings.unused:
        logger.warning("%s: not built yet, and not used", ", ".join(settings.unused))
    if settings.model_url:
        logger.info("models: %s", _shown(settings.model_url))
        if settings.model_path is not None:
            logger.warning("MODEL_PATH is not used, as MODEL_URL is set")
    for name, one in settings.upstreams.items():
        logger.info("models: %s/… at %s", name, _shown(one.url) or one.provider)
    logger.info("store: %s", settings.database)


def _shown(url: str) -> str:
    """The address without what may be secret in it."""
    try:
        return urlsplit(url)._replace(query="").geturl().rpartition("@")[2]
    except ValueError:  # which is told when it is used
        return "?"
