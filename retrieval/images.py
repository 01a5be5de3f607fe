"""Replaces pictures that messages refer to by file with data URLs, which models accept.

Invariants: the newest pictures take precedence, and a prompt has no more pictures than a request can contain, including
those that are already in messages. A picture that is not shown stays `image_file`, which the prompt refuses in the
newest user message and mentions in an older one. Nothing of this is stored.
"""

import base64
from collections.abc import Sequence
from typing import Final

from fairness.fair_limits import REQUESTS
from store.ports import Blobs, Store
from wire.errors import StoreError
from wire.messages import Message, MessageContent, ShownFile

__all__ = ["MAX_BYTES", "Images"]

MAX_BYTES: Final = 20 * 1024 * 1024
"""Maximum size of a picture that is shown (OpenAI's limit)."""

_MAX_TOTAL: Final = 40 * 1024 * 1024
"""Maximum characters of all pictures of a prompt, as URLs."""

_KINDS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


class Images:
    """Looks up and reads the picture files."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    async def inline(self, owner: str, messages: Sequence[Message]) -> list[Message]:
        """Return the messages, in their order (oldest first), with `image_url` instead of `image_file`."""
        shown = list(messages)
        left = _MAX_TOTAL
        for index in reversed(range(len(shown))):
            content = shown[index].get("content")
            if not isinstance(content, list):
                continue
            left -= sum(len(part["image_url"]["url"]) for part in content if part["type"] == "image_url")
            if not any(part["type"] == "image_file" for part in content):
                continue
            parts: list[MessageContent] = []
            for part in content:
                if part["type"] != "image_file":
                    parts.append(part)
                    continue
                url = await self._url(owner, part["image_file"], left)
                left -= len(url or "")
                detail = part["image_file"].get("detail")
                parts.append(
                    part if url is None else {"type": "image_url", "image_url": {"url": url, "detail": detail}}
                )
            shown[index] = {**shown[index], "content": parts}
        return shown

    async def measure(self, owner: str, messages: Sequence[Message]) -> int:
        """Return the maximum number of characters of URLs that `show` adds."""
        sizes: dict[str, int] = {}
        total = 0
        for message in reversed(messages):
            content = message["content"] if isinstance(message.get("content"), list) else ()
            for part in content:
                if part["type"] != "image_file":
                    continue
                file_id = part["image_file"].get("file_id") or ""
                if file_id not in sizes:
                    file = await self._store.get("file", file_id, owner)
                    sizes[file_id] = 0 if file is None else _url_chars(file.body["bytes"])
                total += sizes[file_id]
                if total >= _MAX_TOTAL:
                    return _MAX_TOTAL
        return total

    async def _url(self, owner: str, image: ShownFile, maximum: int) -> str | None:
        if maximum <= 0:
            return None
        file = await self._store.get("file", image.get("file_id") or "", owner)
        if file is None or file.body["bytes"] > min(MAX_BYTES, maximum):
            return None
        try:
            blocks = [block async for block in self._blobs.read(file.id)]
        except StoreError:
            return None
        head = blocks[0][:12] if blocks else b""
        kind = next((kind for start, kind in _KINDS if head.startswith(start)), None)
        if kind is None or (kind == "image/webp" and head[8:] != b"WEBP"):
            return None
        return await REQUESTS.run(owner, _data_url, kind, blocks)


def _data_url(kind: str, blocks: Sequence[bytes]) -> str:
    """Return a picture as a URL. It is encoded in pieces, because no other thread runs while a piece is encoded."""
    pieces = [f"data:{kind};base64,"]
    rest = b""
    for block in blocks:
        data = rest + block
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        pieces.append(base64.b64encode(data[:whole]).decode())
    pieces.append(base64.b64encode(rest).decode())
    return "".join(pieces)


def _url_chars(size: int) -> int:
    """Return the number of characters of the `data:` URL of a picture of this size in bytes; 0 if it is not shown."""
    return 0 if size > MAX_BYTES else 32 + (size + 2) // 3 * 4
