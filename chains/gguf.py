"""Finds models for the built-in engine: GGUF files at MODEL_PATH, otherwise the demo model's packages.

Invariants: listing reads names only, and loads nothing. The demo's packages are found by their metadata and never
imported. Its file is used only if its content is exactly the expected one.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from chains.chat_types import ModelDetails, ModelEntry
from chains.installation import DEMO_PACKAGES, install_command
from wire.errors import UpstreamFailed

__all__ = ["DEMO_NOTE", "Gguf", "check_content", "find_models"]

DEMO_NOTE: Final = (
    "a demo of 135 million parameters, which knows little and only English: for a better model, set "
    "MODEL_PATH=/path/to/model.gguf (or a folder of models) or MODEL_URL in .env"
)
_DEMO_NAME: Final = "SmolLM2-135M-Instruct"
_DEMO_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DEPTH: Final = ("*", "*/*", "*/*/*")  # as LM Studio keeps them: publisher/model/file.gguf
_MAX_FILES: Final = 1_000
"""Maximum files that are listed."""
_MAGIC: Final = b"GGUF"
_PART: Final = re.compile(r"-(\d{5})-of-\d{5}$")


@dataclass(frozen=True, slots=True)
class Gguf:
    """A model on disk. Only the demo has a `sha256` (of its content) and a `package` (the file's distribution)."""

    name: str
    path: Path
    sha256: str = ""
    package: str = ""

    @property
    def is_demo(self) -> bool:
        """Whether it is the demo model, which comes with the installation."""
        return bool(self.sha256)

    def entry(self, state: str, limit: int | None) -> ModelEntry:
        """Return its entry of `/models`; `state` is that of its engine, `limit` the known context length in tokens."""
        details: ModelDetails = {"demo": self.is_demo, "state": state, "vision": False}  # no projector is loaded
        if self.is_demo:
            details["note"] = f"This is {DEMO_NOTE}."
        entry: ModelEntry = {"id": self.name, "object": "model", "created": 0, "owned_by": "threadhold"}
        entry["threadhold"] = details
        if limit:
            entry["context_length"] = limit
        return entry


def find_models(path: Path | None) -> list[Gguf]:
    """Return the models of a file or a folder, including two levels of subfolders; without a path, the demo.

    A model's name is the file's without its suffix. If two files share a name, the later one's is prefixed with its
    folders. Projectors (`mmproj…`) are not models, and only the first file of a split model is listed. Blocks briefly
    on the disk.

    Raises:
        UpstreamFailed: if there is none; the message names the settings.
    """
    if path is None:
        return [_find_demo()]
    if path.is_file():
        return [Gguf(path.stem, path)]
    if not path.is_dir():
        raise UpstreamFailed(f"MODEL_PATH is {path}, which does not exist. Name a GGUF file, or a folder of them.")
    found: dict[str, Gguf] = {}
    for file in _files(path):
        name = _PART.sub("", file.stem)
        if name in found:
            name = file.relative_to(path).with_name(name).as_posix()
        found.setdefault(name, Gguf(name, file))
    if not found:
        raise UpstreamFailed(f"MODEL_PATH is {path}, a folder without .gguf files. Put one there, or name another.")
    return list(found.values())


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for pattern in _DEPTH:
        for file in sorted(folder.glob(pattern)):
            part = _PART.search(file.stem)
            is_model = file.suffix.lower() == ".gguf" and not file.name.lower().startswith("mmproj")
            if is_model and (part is None or int(part[1]) == 1) and file.is_file():
                yield file
                count += 1
                if count == _MAX_FILES:
                    return


def _find_demo() -> Gguf:
    for package in DEMO_PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.suffix == ".gguf" and (path := Path(str(file.locate()))).is_file():
                return Gguf(_DEMO_NAME, path, _DEMO_SHA256, package)
    raise UpstreamFailed(
        "No model is set, and the demo model is not installed. Set MODEL_PATH to a GGUF file or MODEL_URL to an "
        f"OpenAI-compatible server, or install the demo model: `{install_command()}`."
    )


def check_content(model: Gguf) -> None:
    """Check a model's file before an engine loads it. Blocks; the demo is read completely.

    Raises:
        UpstreamFailed: if the file cannot be read, is not a GGUF file, or is not exactly the demo.
    """
    try:
        with model.path.open("rb") as file:
            magic = file.read(len(_MAGIC))
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest() if model.sha256 else ""
    except OSError as error:
        raise UpstreamFailed(f"{model.path} cannot be read: {error.strerror}.") from error
    if found != model.sha256:
        raise UpstreamFailed(
            f"The demo model's file is damaged or was replaced: {model.path} has the SHA-256 {found[:16]}…, expected "
            f"{model.sha256[:16]}…. Uninstall {model.package}, then install it again (`{install_command()}`), or set "
            "MODEL_PATH or MODEL_URL."
        )
    if magic != _MAGIC:
        raise UpstreamFailed(f"{model.path} is not a GGUF file: it begins with {magic!r}. Was the download complete?")
