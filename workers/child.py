"""A child process: `python -m workers.child MEMORY_BYTES`, with requests and replies on standard input, a socket.

A request is `{"function": "module:name", "arguments": [...], "options": {...}, "cpu_s": seconds}`, its reply
`{"value": ...}` or `{"failed": reason}`. Only functions that our own modules export are called. The process ends with
its input. If a task exceeds its processor time, the kernel ends the process.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from workers.budgets import MAX_REPLY_BYTES
from workers.frames import frame, read_frame

__all__ = ["main"]

_ROOT: Final = Path(__file__).parents[1]
_PACKAGES: Final = frozenset({"chains", "graphs"})
_MAX_REQUEST_BYTES: Final = 64 * 1024 * 1024


def main(arguments: list[str]) -> int:
    """Serve requests until the input ends; returns the exit code."""
    _limit_memory(int(arguments[0]))
    sys.meta_path.insert(0, _BarePackages())
    while (request := read_frame(lambda size: os.read(0, size), _MAX_REQUEST_BYTES)) is not None:
        reply = frame(_reply(request))
        while reply:
            reply = reply[os.write(0, reply) :]
    return 0


def _limit_memory(memory_bytes: int) -> None:
    """Limit this process: its address space, no file writes, no core dump, low priority."""
    if sys.platform == "win32":
        return
    import resource

    for kind, maximum in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(kind, (maximum, maximum))
        except (ValueError, OSError):  # macOS has no RLIMIT_AS, and the hard limit can already be lower
            continue
    os.nice(5)


def _reply(request: bytes) -> bytes:
    try:
        task = json.loads(request)
        function = _function(task["function"])  # imports do not count as the task's time
        _limit_cpu(task["cpu_s"])
        try:
            value = function(*task["arguments"], **task["options"])
            reply = json.dumps({"value": value}).encode()
        finally:
            _limit_cpu(0)
    except MemoryError:
        return b'{"failed": "memory"}'
    except Exception as error:  # one of our functions has a defect, or receives unforeseen input
        return json.dumps({"failed": f"{type(error).__name__} in {task['function']}"}).encode()
    return reply if len(reply) <= MAX_REPLY_BYTES else b'{"failed": "size"}'


def _limit_cpu(cpu_s: float) -> None:
    """Make the kernel end this process after this much processor time; 0 removes the limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _function(path_and_name: str) -> Callable[..., object]:
    path, _, name = path_and_name.partition(":")
    if path.partition(".")[0] not in _PACKAGES:
        raise LookupError(path_and_name)
    module = importlib.import_module(path)
    if name not in module.__all__:
        raise LookupError(path_and_name)
    function: Callable[..., object] = getattr(module, name)
    return function


class _BarePackages(MetaPathFinder):
    """Finds `chains`, `graphs` and the packages in them without running their `__init__` modules. These import
    LangChain, which takes two seconds and 80 MB, and no check needs it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a namespace package for one of these packages; None for everything else."""
        del path, target
        names = fullname.split(".")
        folder = _ROOT.joinpath(*names)
        if names[0] not in _PACKAGES or not folder.is_dir():
            return None
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
