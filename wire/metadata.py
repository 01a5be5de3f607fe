"""The metadata of objects: at most 16 pairs of strings, with keys of up to 64 and values of up to 512 characters."""

from typing import Annotated

from pydantic import Field, StringConstraints

__all__ = ["Metadata"]

_Key = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]

Metadata = Annotated[dict[_Key, _Value], Field(max_length=16)]
