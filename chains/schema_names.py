"""Limits the property names of a JSON Schema, which llama.cpp copies into the rules of its grammar. Pure.

llama.cpp names each rule after all properties on its path, and cleans these names with recursive regular expressions.
For `additionalProperties`, it builds a tree of the names' characters, with one level of native recursion for each.
With a stack of 8 MiB, a name of 30,000 characters crashes xllamacpp 2026.10. 45 nested names of 256 characters above
400,000 repetitions take 39 s and 4.8 GB.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise, takewhile
from typing import Final

from chains.schema_limits import SchemaRefused

__all__ = ["MAX_NAME", "RuleNames", "tree_size"]

MAX_NAME: Final = 256
"""Maximum characters of a property name."""
_MAX_TREE: Final = 900
"""Maximum characters of the property names of one object with `additionalProperties`, shared prefixes counted once.
With 1,000 and more, llama.cpp refuses the grammar without a reason."""
_MAX_RULE_TEXT: Final = 40_000_000
"""Maximum characters in the names of all rules."""
_LEVEL: Final = 8
"""Characters that a level adds to a rule's name in addition to the property's name, such as `-items-0`."""
_BASE: Final = 16
"""Characters of a rule's name in addition to its levels: the number of a repetition, and the name's overhead in
memory."""
_RULES: Final = 4
"""Rules per property, or per character in the tree."""


class RuleNames:
    """Adds up the lengths of the rule names of one request's schemas."""

    def __init__(self) -> None:
        self._text = 0

    def add(self, rules: int, path: int, depth: int) -> None:
        """Count the rules of a subschema that is below `path` characters of property names and `depth` levels.

        Raises SchemaRefused.
        """
        self._text += rules * (path + depth * _LEVEL + _BASE)
        if self._text > _MAX_RULE_TEXT:
            raise SchemaRefused(
                f"The grammar's rules, which are named after the properties on their paths, would have over "
                f"{_MAX_RULE_TEXT} characters of names. Use shorter property names, fewer levels or fewer repetitions."
            )

    def add_object(self, schema: Mapping[str, object], names: Collection[str], path: int, depth: int) -> None:
        """Count the rules of an object with these property names. Raises SchemaRefused."""
        for name in names:
            if len(name) > MAX_NAME:
                raise SchemaRefused(
                    f"The property name `{name[:40]}…` has {len(name)} characters; at most {MAX_NAME} are allowed. "
                    "Use a shorter one."
                )
        more = schema.get("additionalProperties")
        size = tree_size(names) if more is True or isinstance(more, dict) else 0
        if size > _MAX_TREE:
            raise SchemaRefused(
                f"The property names of one object with `additionalProperties` have {size} characters, shared "
                f"prefixes counted once; at most {_MAX_TREE} are allowed. Set `additionalProperties` to false."
            )
        self.add(_RULES * (size + len(names)), path + max(map(len, names), default=0), depth)


def tree_size(names: Collection[str]) -> int:
    """Return the number of characters that the names have, shared prefixes counted once."""
    ordered = sorted(names)
    return sum(map(len, ordered)) - sum(_shared(one, other) for one, other in pairwise(ordered))


def _shared(one: str, other: str) -> int:
    """Return the length of the common prefix of two names."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
