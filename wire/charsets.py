"""Character sets that clients and servers name for a text, as Python codecs. Pure.

Python has other codecs, some of which take quadratic time (`punycode`, `idna`) or are not character sets. It caches
every name that it looks up, so only names that it has are looked up, each in one spelling.
"""

import codecs
import encodings
import pkgutil
import re
from encodings.aliases import aliases
from typing import Final

__all__ = ["text_codec"]

_KNOWN: Final = frozenset(
    {*aliases, *aliases.values(), *(each.name for each in pkgutil.iter_modules(encodings.__path__))}
)
_OTHER: Final = re.compile(r"[^a-z0-9]+")
_MAX_NAME: Final = 40
_CODECS: Final = re.compile(
    r"ascii|utf-(8|16|32)(-sig|-le|-be)?|iso8859-\d+|iso2022_\w+|cp\d+|koi8-\w+|mac-\w+|gb\w+|hz|big5\w*|euc_\w+|"
    r"shift_ji\w+|johab|tis-620|ptcp154|kz1048|hp-roman8"
)


def text_codec(charset: str) -> str | None:
    """Return Python's name of a character set; None for unknown ones and for other codecs."""
    name = _OTHER.sub("_", charset[: _MAX_NAME + 1].lower()).strip("_")
    if len(charset) > _MAX_NAME or name not in _KNOWN:
        return None
    try:
        codec = codecs.lookup(name).name
    except LookupError:  # a module of `encodings` that is no codec, or one of another system
        return None
    return codec if _CODECS.fullmatch(codec) else None
