"""Character sets that strangers can name for a text, as Python knows them. Pure.

Python has other codecs, some of which take quadratic time (`punycode`, `idna`) or are not character sets.
"""

import codecs
import re
from typing import Final

__all__ = ["text_codec"]

_MAX_NAME: Final = 40
_CODECS: Final = re.compile(
    r"ascii|utf-(8|16|32)(-sig|-le|-be)?|iso8859-\d+|iso2022_\w+|cp\d+|koi8-\w+|mac-\w+|gb\w+|hz|big5\w*|euc_\w+|"
    r"shift_ji\w+|johab|tis-620|ptcp154|kz1048|hp-roman8"
)


def text_codec(charset: str) -> str | None:
    """Return Python's name of a character set; None for unknown ones and for other codecs."""
    if len(charset) > _MAX_NAME:
        return None
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
    return codec if _CODECS.fullmatch(codec) else None
