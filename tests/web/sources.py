"""The page's files, and its texts by language."""

import json
from pathlib import Path
from typing import Any, Final

from tests.process import ROOT

__all__ = ["FILES", "INDEX", "LANGUAGES", "scripts", "texts"]

INDEX: Final = ROOT / "web" / "index.html"
FILES: Final = ROOT / "web" / "page"
LANGUAGES: Final = ("en", "fr")


def scripts() -> list[Path]:
    """Return the scripts."""
    return sorted(FILES.glob("*.js"))


def texts(language: str) -> dict[str, Any]:
    """Return the texts in a language, by key; the last one, `presets`, is a list of objects."""
    found: dict[str, Any] = json.loads((FILES / f"{language}.json").read_text(encoding="utf-8"))
    return found
