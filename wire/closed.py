"""What pydantic does with unknown fields of wire objects, which are TypedDicts.

Objects of the API are closed: their OpenAPI schemas allow no other fields. Objects within them are open, because dumps
have fields in them that OpenAI added later; without a setting of their own, they would be closed, too.
"""

from typing import Final

from pydantic import ConfigDict

__all__ = ["CLOSED", "OPEN"]

CLOSED: Final = ConfigDict(extra="forbid")

OPEN: Final = ConfigDict(extra="ignore")
