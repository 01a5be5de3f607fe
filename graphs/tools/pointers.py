"""JSON pointers (RFC 6901) in their URI-fragment form: writing and following them."""

from urllib.parse import unquote

from wire.json import Json

__all__ = ["Pointer", "follow", "format_pointer"]

Pointer = tuple[str | int, ...]


def format_pointer(pointer: Pointer) -> str:
    """Return a pointer as text, e.g. `#/paths/~1pets/get`."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in pointer)


def follow(document: Json, reference: str) -> Json:
    """Return the value that `reference` (`#`, `#/…`) points at.

    Raises:
        LookupError: there is no such value, or the fragment is not a pointer.
    """
    fragment = unquote(reference[1:])
    if fragment and not fragment.startswith("/"):
        raise LookupError(reference)
    node = document
    for part in fragment.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            if not (name.isascii() and name.isdecimal()) or len(name) > 9:
                raise LookupError(reference)
            node = node[int(name)]
        elif isinstance(node, dict):
            node = node[name]
        else:
            raise LookupError(reference)
    return node
