"""The text of a stored API key, and what a key is allowed to do. Pure.

A key is `th-<number>-<secret>`, all of it hexadecimal. `th-<number>` is its id: it is public, it finds the key without
a search, and it is the prefix that lists show.

The store keeps the SHA-256 of the key. The secret has 256 random bits, so nobody can guess it from its hash, however
fast the hash is. Slow hashes protect passwords, which people choose; here, one would only slow down each request.
"""

import hashlib
import re
import secrets
from typing import Final, Literal, get_args

__all__ = ["DEFAULT_SCOPES", "ID_LENGTH", "SCOPES", "Scope", "hash_key", "key_id", "new_key"]

Scope = Literal["inference", "files", "read", "admin"]
"""What a key is allowed to do.

- `inference`: assistants, threads, runs, and all model calls
- `files`: files, uploads and vector stores
- `read`: every GET request, except those of the organization
- `admin`: the usage of all owners (`/organization`)
"""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
DEFAULT_SCOPES: Final[frozenset[Scope]] = frozenset({"inference", "files", "read"})
"""The scopes of a new key, and of the keys in API_KEYS."""

ID_LENGTH: Final = 15
"""Characters of an id, with which its key begins."""

_KEY: Final = re.compile(r"(th-[0-9a-f]{12})-[0-9a-f]{64}")
_ID: Final = re.compile(r"th-[0-9a-f]{12}")


def new_key() -> str:
    """Return a new random key."""
    return f"th-{secrets.token_hex(6)}-{secrets.token_hex(32)}"


def key_id(text: str) -> str | None:
    """Return the id of a key, which can be given as the id itself; None if the text is neither."""
    found = _KEY.fullmatch(text)
    if found is not None:
        return found[1]
    return text if _ID.fullmatch(text) else None


def hash_key(key: bytes) -> bytes:
    """Return what the store keeps of a key."""
    return hashlib.sha256(key).digest()
