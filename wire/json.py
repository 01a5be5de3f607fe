"""Types of decoded JSON whose shape other parties decide: schemas of clients, bodies of upstreams, OpenAPI documents.

A recursive type would force a check at each access, and the checks that matter are made by `wire.validation`, by the
readers of schemas and by those of chunks. Our own objects are TypedDicts.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Json", "JsonObject", "JsonView"]

Json: TypeAlias = Any
"""Any JSON value."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonView: TypeAlias = Mapping[str, Any]
"""A JSON object that is only read. Every TypedDict is one."""
