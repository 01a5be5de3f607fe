"""Determines the owner that a command works for: the given one, or the only possible one."""

from collections.abc import Collection, Mapping

from wire.errors import ThreadholdError
from wire.ids import DEFAULT_OWNER

__all__ = ["describe_inaccessible", "owner_of_export", "owner_of_import"]


def owner_of_export(asked: str | None, there: Collection[str]) -> str:
    """Return the owner to export. Raises ThreadholdError if none is given and there are several, or for another one."""
    if asked is None and len(there) > 1:
        raise ThreadholdError(f"The store has objects of {_join_names(there)}. Choose one with --owner.")
    if asked is not None and asked not in there:
        has = f"objects of {_join_names(there)} only" if there else "no objects"
        raise ThreadholdError(f"The store has nothing of `{asked}`: it has {has}.")
    return asked or next(iter(there), DEFAULT_OWNER)


def owner_of_import(asked: str | None, api_keys: Mapping[str, str]) -> str:
    """Return the owner to import for. Raises ThreadholdError for an owner whose objects no API key could access."""
    there = set(api_keys.values()) or {DEFAULT_OWNER}
    if asked is None and len(there) > 1:
        raise ThreadholdError(f"API_KEYS has keys of {_join_names(there)}. Choose one with --owner.")
    if asked is not None and asked not in there:
        keys = "API_KEYS has keys of" if api_keys else "API_KEYS is empty, so everything belongs to"
        raise ThreadholdError(f"Objects of `{asked}` could not be accessed: {keys} {_join_names(there)}.")
    return asked or next(iter(there))


def describe_inaccessible(there: Collection[str], api_keys: Mapping[str, str]) -> str | None:
    """Return a warning if the store has objects that no request can access, else None."""
    if not (lost := set(there) - (set(api_keys.values()) or {DEFAULT_OWNER})):
        return None
    if not api_keys:
        return (
            f"Objects of {_join_names(lost)} cannot be accessed: API_KEYS is empty, so requests act for "
            f"`{DEFAULT_OWNER}` only."
        )
    example = f"{min(lost)}=some-key"
    return f"Objects of {_join_names(lost)} cannot be accessed: API_KEYS has no key for them. Add one: `{example}`."


def _join_names(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
