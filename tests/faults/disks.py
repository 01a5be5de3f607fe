"""Small disks that can be filled: real ones, in a mount namespace that ends with its keeper."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

__all__ = ["Small", "SmallDisk", "without_privileges"]


class SmallDisk:
    """A tmpfs of a few megabytes at `path`, visible only in the namespaces of `keeper`, which `before` enters."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._keeper = subprocess.Popen(
            [
                "unshare",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                f"mount -t tmpfs -o size={max_bytes} tmpfs '{path}' && echo up && exec cat",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != b"up\n":
            _, why = self._keeper.communicate(timeout=5)
            pytest.skip(f"no disk can be mounted here: {why.decode().strip()}")
        self.before = ("nsenter", f"--target={self._keeper.pid}", "--user", "--preserve-credentials", "--mount")
        self.keeper = self._keeper.pid
        """The process whose namespaces see it."""
        self.path = path
        self.seen = Path(f"/proc/{self._keeper.pid}/root{path}")
        """The same folder as this process sees it."""

    def fill(self) -> Path:
        """Write until no byte is free, after the data of an earlier call, if any; return the file."""
        filler = self.seen / "filler"
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65_536, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        return filler

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.communicate(timeout=5)


class Small:
    """A server on a small disk of its own."""

    def __init__(self, server: ServerProcess, disk: SmallDisk) -> None:
        self.server = server
        self.disk = disk

    @classmethod
    @contextlib.contextmanager
    def on_disk(cls, folder: Path, upstream: ScriptedUpstream, max_bytes: int) -> Iterator[Self]:
        """Start a server on a disk that is mounted in `folder`."""
        path = folder / "disk"
        path.mkdir()
        with SmallDisk(path, max_bytes) as disk:
            settings = {"DATA_DIR": str(path), "MODEL_URL": upstream.url, "DRAIN_S": "0.5"}
            with ServerProcess(folder, inside=disk.keeper, **settings) as server:
                yield cls(server, disk)


def without_privileges() -> tuple[str, ...]:
    """Return a command that starts another one for which permissions count, as they do not for root."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("permissions do not count for root, and setpriv, which drops its privileges, is missing")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all")
