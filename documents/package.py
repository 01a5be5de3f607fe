"""Open Packaging Conventions: the archive of parts and relationships behind Word, PowerPoint and Excel files.

Parts are found by `[Content_Types].xml` and relationships, never by fixed names: Word Online calls the main part
`document2.xml`. Transitional and strict (ISO) namespaces become one, such as `wordprocessingml/main`.
"""

import posixpath
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Final, Protocol
from urllib.parse import unquote

from lxml import etree

__all__ = ["Element", "Package", "Part", "plain_name", "plain_namespace"]

_PREFIXES: Final = ("http://schemas.openxmlformats.org/", "http://purl.oclc.org/ooxml/")
_BLOCK: Final = 64 * 1024


class Element(Protocol):
    """The part of lxml's elements that is used here; lxml has no types."""

    @property
    def tag(self) -> object:
        """The name with its namespace; a function for comments and processing instructions."""
        ...

    @property
    def attrib(self) -> Mapping[str, str]:
        """The attributes, by name with namespace."""
        ...

    def __iter__(self) -> "Iterator[Element]": ...

    def iter(self, tag: str) -> "Iterator[Element]":
        """Yield this element and all elements in it that have the tag."""
        ...

    def iterchildren(self, tag: str) -> "Iterator[Element]":
        """Yield the children that have the tag."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the package: its name without the leading slash, and its content type in lower case."""

    name: str
    content_type: str


@dataclass(frozen=True, slots=True)
class _Relationship:
    id: str
    type: str
    target: str


@lru_cache(maxsize=4096)
def plain_namespace(uri: str) -> str:
    """Return an Open XML namespace without its edition; other namespaces are unchanged."""
    for prefix in _PREFIXES:
        if uri.startswith(prefix):
            return uri.removeprefix(prefix).replace("/2006", "", 1)
    return uri


@lru_cache(maxsize=4096)
def plain_name(tag: str) -> str:
    """Return `{namespace}local` with a plain namespace."""
    namespace, _, local = tag.removeprefix("{").rpartition("}")
    return f"{{{plain_namespace(namespace)}}}{local}" if namespace else local


class Package:
    """A context manager over an archive. Malformed XML raises lxml's errors, a damaged archive zipfile's."""

    def __init__(self, source: Path | IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(source)
        # Names can be percent-encoded, as the convention requires, and old .NET programs write backslashes.
        self._names = {unquote(name).replace("\\", "/").lstrip("/").lower(): name for name in self._archive.namelist()}
        self._defaults: dict[str, str] = {}
        self._overrides: dict[str, str] = {}
        self._read_content_types()

    def __enter__(self) -> "Package":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def main(self) -> Part | None:
        """Return the main part: by its relationship, else by its content type."""
        parts = (self._part(name) for name, kind in self._overrides.items() if kind.endswith(".main+xml"))
        return next(self.related(None, "officeDocument"), None) or next(filter(None, parts), None)

    def related(self, part: Part | None, *kinds: str) -> Iterator[Part]:
        """Yield the targets of a part's relationships of these kinds, in their order; None means the package itself.

        A kind is the last segment of the relationship's type, which is the same in strict files.
        """
        for relationship in self._relationships(part):
            if relationship.type.rpartition("/")[2].lower() in {kind.lower() for kind in kinds}:
                found = self._part(relationship.target)
                if found is not None:
                    yield found

    def by_id(self, part: Part, id: str) -> Part | None:
        """Return the target of a part's relationship."""
        for relationship in self._relationships(part):
            if relationship.id == id:
                return self._part(relationship.target)
        return None

    def read(self, part: Part) -> bytes:
        """Return a part's bytes."""
        return self._archive.read(self._names[part.name.lower()])

    def feed(self, part: Part, target: object) -> None:
        """Parse a part in blocks; `target` has `start(tag, attributes, namespaces)`, `end`, `data` and `close`.

        Entities are not resolved, and nothing external is loaded.
        """
        parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True, huge_tree=True)
        with self._archive.open(self._names[part.name.lower()]) as file:
            while block := file.read(_BLOCK):
                parser.feed(block)
        parser.close()

    def tree(self, part: Part) -> Element:
        """Parse a small part as a whole."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
        root: Element = etree.fromstring(self.read(part), parser)
        return root

    def _part(self, name: str) -> Part | None:
        if name.lower() not in self._names:
            return None
        extension = name.rpartition(".")[2].lower()
        return Part(name, self._overrides.get(name.lower()) or self._defaults.get(extension, ""))

    def _read_content_types(self) -> None:
        name = self._names.get("[content_types].xml")
        if name is None:
            return
        for item in self.tree(Part(name, "")).iterchildren("{*}*"):
            kind = item.attrib.get("ContentType", "").strip().lower()
            if name := item.attrib.get("PartName"):
                self._overrides[unquote(name).lstrip("/").lower()] = kind
            elif extension := item.attrib.get("Extension"):
                self._defaults[extension.lower()] = kind

    @lru_cache(maxsize=64)  # noqa: B019 - a package exists as long as its file is read
    def _relationships(self, part: Part | None) -> tuple[_Relationship, ...]:
        folder, _, name = (part.name if part else "").rpartition("/")
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path.lower() not in self._names:
            return ()
        return tuple(
            _Relationship(given.get("Id", ""), given.get("Type", ""), _resolve(folder, given.get("Target", "")))
            for given in (item.attrib for item in self.tree(Part(path, "")).iterchildren("{*}*"))
            if given.get("TargetMode", "").lower() != "external"
        )


def _resolve(folder: str, target: str) -> str:
    """Return the part name of a relationship's target, relative to the folder of the relationship's part."""
    target = unquote(re.sub(r"[#?].*", "", target)).replace("\\", "/")
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
