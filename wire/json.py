"""Types of decoded JSON whose shape other parties decide: schemas of clients, bodies of upstreams, OpenAPI documents.

Our own objects are TypedDicts. `Json` must be narrowed before it is used. The other types must not: their values were
validated by a model, or their reader checks each position itself (OpenAPI documents, JSON Schemas, chunks), and a
recursive type would need a cast at each access.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Json", "JsonObject", "JsonView", "UncheckedJson"]

Json: TypeAlias = object
"""Any JSON value. It must be narrowed, with `isinstance` or `match`, before it is used."""

UncheckedJson: TypeAlias = Any
"""Any JSON value whose shape was validated before, or is checked by the code that reads it."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonView: TypeAlias = Mapping[str, Any]
"""A JSON object that is only read. Every TypedDict is one."""
