"""Determines the owner that a command works for: the given one, or the only possible one."""

from collections.abc import Collection

from ops.factories import ServerSettings
from wire.errors import ThreadholdError
from wire.ids import DEFAULT_OWNER

__all__ = ["describe_inaccessible", "key_owners", "owner_of_export", "owner_of_import"]


def owner_of_export(asked: str | None, there: Collection[str]) -> str:
    """Return the owner to export. Raises ThreadholdError if none is given and there are several, or for another one."""
    if asked is None and len(there) > 1:
        raise ThreadholdError(f"The store has objects of {_join_names(there)}. Choose one with --owner.")
    if asked is not None and asked not in there:
        has = f"objects of {_join_names(there)} only" if there else "none at all"
        raise ThreadholdError(f"The store has no objects of `{asked}`: it has {has}.")
    return asked or next(iter(there), DEFAULT_OWNER)


def owner_of_import(asked: str | None, owners: Collection[str]) -> str:
    """Return the owner to import for; `owners` have keys. Raises ThreadholdError for one whose objects no key could
    access."""
    there = set(owners) or {DEFAULT_OWNER}
    if asked is None and len(there) > 1:
        raise ThreadholdError(f"There are keys of {_join_names(there)}. Choose one with --owner.")
    if asked is not None and asked not in there:
        keys = "there are keys of" if owners else "there are no keys, so everything belongs to"
        raise ThreadholdError(
            f"Objects of `{asked}` would be inaccessible: {keys} {_join_names(there)}. "
            "`threadhold keys create --owner` creates a key."
        )
    return asked or next(iter(there))


def describe_inaccessible(there: Collection[str], owners: Collection[str]) -> str | None:
    """Return a warning if the store has objects that no request can access, else None; `owners` have keys."""
    if not (lost := set(there) - (set(owners) or {DEFAULT_OWNER})):
        return None
    if not owners:
        return (
            f"Objects of {_join_names(lost)} cannot be accessed: there are no keys, so requests act for "
            f"`{DEFAULT_OWNER}` only."
        )
    return (
        f"Objects of {_join_names(lost)} cannot be accessed: there is no key for them. Create one: `threadhold keys "
        f"create --owner {min(lost)}`."
    )


def key_owners(settings: ServerSettings) -> set[str]:
    """Return the owners of API_KEYS and of the stored keys. Reads the store. Raises StoreFailed."""
    return {*settings.api_keys.values(), *(key.owner for key in settings.database.keys.all())}


def _join_names(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
