"""Reads the settings files, and finds entries in them that set nothing.

Invariants: an unreadable file is reported in a sentence. An unknown key of threadhold.toml is always reported. Other
programs can use `.env` too, so there a key is reported only if it looks like a setting.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from wire.errors import InvalidSetting

__all__ = ["ignored_entries", "near_name", "read_text", "read_toml"]

_ALIKE: Final = 0.8
"""How similar two names must be, by difflib's ratio. `MODEL_ULR` and `MODEL_URL` have 0.89."""


def read_text(name: str) -> str:
    """Return the text of a file, or an empty text if there is no file. Raises InvalidSetting."""
    try:
        return Path(name).read_text("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise InvalidSetting(f"{name} is not UTF-8 (PowerShell's `>>` writes UTF-16). Save it as UTF-8.") from error
    except OSError as error:
        raise InvalidSetting(f"{name} cannot be read: {error.strerror}.") from error


def read_toml(name: str) -> dict[str, object]:
    """Return the content of a TOML file, empty if there is no file. Raises InvalidSetting."""
    try:
        return tomllib.loads(read_text(name))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{name} is not TOML: {error}.") from error


def ignored_entries(known: Collection[str], *, toml: Mapping[str, object], dotenv: str) -> list[str]:
    """Return a sentence for each entry that sets nothing.

    `known` are the settings' names in lower case; `toml` and `dotenv` are the contents of the files.
    """
    return [*_of_toml(known, toml), *_of_dotenv(known, dotenv)]


def _of_toml(known: Collection[str], toml: Mapping[str, object]) -> Iterator[str]:
    for key in toml:
        if key not in known:
            near = near_name(key, known)
            yield f"threadhold.toml: `{key}` is not a setting" + (f"; did you mean `{near}`?" if near else "")


def _of_dotenv(known: Collection[str], dotenv: str) -> Iterator[str]:
    for binding in parse_stream(StringIO(dotenv)):
        if binding.error:
            yield f".env: line {binding.original.line} sets nothing; write NAME=value"
        elif binding.key and binding.key.lower() not in known and (near := near_name(binding.key, known)):
            yield f".env: `{binding.key}` is not a setting; did you mean `{near.upper()}`?"


def near_name(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a misspelled one is closest to; None if none is close."""
    return next(iter(get_close_matches(name.lower(), known, 1, _ALIKE)), None)
