"""Whose objects a command is about: what was said, or the only one it can be."""

from collections.abc import Collection, Mapping

from wire.errors import ThreadholdError
from wire.ids import DEFAULT_OWNER

__all__ = ["owner_of_export", "owner_of_import", "unopened"]


def owner_of_export(asked: str | None, there: Collection[str]) -> str:
    """Return the owner to export. Raises ThreadholdError where there are several, or not that one."""
    if asked is None and len(there) > 1:
        raise ThreadholdError(f"The store has objects of {_spelled(there)}: say whose with --owner.")
    if asked is not None and asked not in there:
        raise ThreadholdError(f"The store has nothing of `{asked}`; it has objects of {_spelled(there) or 'nobody'}.")
    return asked or next(iter(there), DEFAULT_OWNER)


def owner_of_import(asked: str | None, api_keys: Mapping[str, str]) -> str:
    """Return the owner to import for. Raises ThreadholdError for one whose objects nobody could read."""
    there = set(api_keys.values()) or {DEFAULT_OWNER}
    if asked is None and len(there) > 1:
        raise ThreadholdError(f"API_KEYS has keys of {_spelled(there)}: say for whom with --owner.")
    if asked is not None and asked not in there:
        keys = "API_KEYS has keys of" if api_keys else "API_KEYS is empty, so that everything belongs to"
        raise ThreadholdError(f"Nobody could read what belongs to `{asked}`: {keys} {_spelled(there)}.")
    return asked or next(iter(there))


def unopened(there: Collection[str], api_keys: Mapping[str, str]) -> str | None:
    """Return a sentence where the store has objects of owners that nobody can be (None: there are none)."""
    if not (lost := set(there) - (set(api_keys.values()) or {DEFAULT_OWNER})):
        return None
    if not api_keys:
        return (
            f"Nobody can read what belongs to {_spelled(lost)}: API_KEYS is empty, which opens `{DEFAULT_OWNER}` only."
        )
    example = f"{min(lost)}=some-key"
    return f"Nobody can read what belongs to {_spelled(lost)}: no key of API_KEYS is theirs. To open it: `{example}`."


def _spelled(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
