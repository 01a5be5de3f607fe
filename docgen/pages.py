"""The generated pages of `docs/`, by the names of their files."""

from collections.abc import Callable, Mapping
from typing import Final

from docgen.api_page import api_page
from docgen.settings_page import settings_page

__all__ = ["PAGES"]

PAGES: Final[Mapping[str, Callable[[], str]]] = {"api.md": api_page, "settings.md": settings_page}
