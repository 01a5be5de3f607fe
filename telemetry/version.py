"""The installed version, for the OpenAPI document, traces and the User-Agent."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version() -> str:
    """Return the distribution's version; `0+checkout` if the code runs without being installed."""
    try:
        return version("threadhold")
    except PackageNotFoundError:
        return "0+checkout"
