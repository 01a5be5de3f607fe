"""Lists as settings have them, in one line with commas between. Pure; raises ValueError with a sentence."""

from wire.ids import DEFAULT_OWNER

__all__ = ["split_aliases", "split_keys", "split_names"]


def split_names(text: str) -> tuple[str, ...]:
    """Return the entries without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_aliases(text: str) -> dict[str, str]:
    """Read `name=target`; returns target by name."""
    aliases: dict[str, str] = {}
    for part in split_names(text):
        name, equals, target = (piece.strip() for piece in part.partition("="))
        if not (name and equals and target):
            raise ValueError(f"'{part}' is no alias; write name=target, several with commas between them")
        aliases[name] = target
    return aliases


def split_keys(text: str) -> dict[str, str]:
    """Read `key`, which belongs to the default owner, and `owner=key`; returns owner by key."""
    keys: dict[str, str] = {}
    for part in split_names(text):
        owner, equals, key = (piece.strip() for piece in part.partition("="))
        if equals and not (owner and key.strip("=")):
            raise ValueError("an entry has an empty owner or key; write key or owner=key")
        key, owner = (key, owner) if equals else (owner, DEFAULT_OWNER)
        if keys.setdefault(key, owner) != owner:
            raise ValueError(f"'{owner}' and '{keys[key]}' have the same key; give each owner its own")
    return keys
