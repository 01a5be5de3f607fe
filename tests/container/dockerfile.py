"""Executes a Dockerfile's instructions in folders, by chroot, without a container engine. Needs root on Linux.

It knows the instructions that our Dockerfile uses, and refuses others. A stage begins as a copy of a base folder, which
stands for the image in `FROM`. The result runs as the image would: as its user, with its environment, in namespaces of
its own for mounts and processes, with a read-only root, and with a folder of the caller at the volume.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

__all__ = ["Container", "Image", "build", "context_files", "instructions"]

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUILD_LIMIT_S: Final = 1800
_FIELDS: Final = {
    "CMD": "command",
    "ENTRYPOINT": "entrypoint",
    "STOPSIGNAL": "stop_signal",
    "USER": "user",
    "VOLUME": "volume",
}


@dataclass
class Image:
    """A stage of a build: its root folder, and what its instructions set."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    workdir: str = "/"
    user: str = "0:0"
    volume: str = ""
    stop_signal: str = "SIGTERM"
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Yield each instruction and its argument, with continued lines joined."""
    lines = (line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, argument = line.partition(" ")
        yield name, argument.strip()


def context_files(top: Path) -> list[Path]:
    """Return the files of the build's context. `.dockerignore` excludes everything, then lists exceptions."""
    lines = [line for line in (top / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = [line[1:] for line in lines if line.startswith("!")]
    dropped = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    files = [file for name in kept for file in ([top / name] if (top / name).is_file() else (top / name).rglob("*"))]
    return [
        file
        for file in files
        if file.is_file() and not any(fnmatch(part, each) for part in file.parts for each in dropped)
    ]


def build(top: Path, base: Path, folder: Path, **arguments: str) -> Image:
    """Execute the Dockerfile in `top`, and return its last stage. Every stage starts from `base`."""
    stages: dict[str, Image] = {}
    image: Image | None = None
    values: dict[str, str] = {}
    for name, argument in instructions(top / "Dockerfile"):
        if name == "FROM":
            words = argument.split()
            image = Image(folder / f"stage{len(stages)}")
            subprocess.run(["cp", "-a", "--reflink=auto", base, image.root], check=True)
            stages[words[2] if len(words) == 3 else "last"] = image
            values = {}
        elif name == "ARG":
            key, _, default = argument.partition("=")
            values[key] = arguments.get(key, default.strip('"'))
        else:
            assert image is not None
            _execute(image, name, argument, top, stages, values)
    assert image is not None
    return image


def _execute(
    image: Image, name: str, argument: str, top: Path, stages: Mapping[str, Image], values: Mapping[str, str]
) -> None:
    match name:
        case "ENV":
            for word in shlex.split(argument):
                key, _, value = word.partition("=")
                image.env[key] = value.replace("$PATH", image.env["PATH"])
        case "WORKDIR":
            image.workdir = argument
            (image.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "COPY":
            _copy(image, argument.split(), top, stages)
        case "RUN":
            _run(image, argument, values)
        case "HEALTHCHECK":
            image.health = json.loads(argument[argument.index("CMD ") + 4 :])
        case "ENTRYPOINT" | "CMD":
            setattr(image, _FIELDS[name], json.loads(argument))
        case "VOLUME" | "USER" | "STOPSIGNAL":
            setattr(image, _FIELDS[name], argument)
        case "LABEL" | "EXPOSE":
            pass
        case _:
            raise AssertionError(f"the instruction {name} is not known here")


def _copy(image: Image, words: list[str], top: Path, stages: Mapping[str, Image]) -> None:
    if words[0].startswith("--from="):
        source = stages[words[0].removeprefix("--from=")].root / words[1].lstrip("/")
        subprocess.run(["cp", "-a", source, image.root / words[2].lstrip("/")], check=True)
        return
    *sources, target = words
    folder = image.root / image.workdir.lstrip("/") / target
    for file in context_files(top):
        path = file.relative_to(top)
        if sources == ["."]:
            copy = folder / path
        elif str(path) in sources:
            copy = folder / path.name
        else:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)


def _run(image: Image, command: str, values: Mapping[str, str]) -> None:
    # The machine's own settings of pip, as a proxy or a mirror needs them.
    machine = {
        key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.lower().endswith("_proxy")
    }
    assignments = [f"{key}={value}" for key, value in {**machine, **values, **image.env}.items()]
    inside = f"mount -t proc proc /proc && cd {shlex.quote(image.workdir)} && {command}"
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    words += ["chroot", str(image.root), "/usr/bin/env", "-i", *assignments, "/bin/sh", "-ec", inside]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False)
    assert done.returncode == 0, f"RUN {command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


class Container:
    """One run of an image: starts, can be asked for its health, and is stopped by the image's signal."""

    def __init__(self, image: Image, volume: Path, log: Path, *, secrets: Path | None = None, **settings: str) -> None:
        self._image = image
        self._env = image.env | settings
        root = shlex.quote(str(image.root))
        mounts = [
            f"mount --bind {root} {root}",
            f"mount --bind {shlex.quote(str(volume))} {root}{image.volume}",
            f"mount -t tmpfs tmpfs {root}/tmp",
            f"mount -t proc proc {root}/proc",
            *(
                []
                if secrets is None
                else [f"mkdir -p {root}/run/secrets", f"mount --bind {secrets} {root}/run/secrets"]
            ),
            # a write that has just ended can keep the mount busy for a moment
            f"for _ in 1 2 3 4 5 6 7 8 9; do ! mount -o remount,ro,bind {root} || break; sleep 0.2; done",
            f"mount -o remount,ro,bind {root}",
        ]
        server = self._command([*image.entrypoint, *image.command])
        script = " && ".join([*mounts, f"exec {shlex.join(server)}"])
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script]
        self._log = log
        with log.open("ab") as output:
            self._outer = subprocess.Popen(words, stdout=output, stderr=output)

    def _command(self, words: Sequence[str]) -> list[str]:
        """Return the command that runs words with the image's user, environment and folder."""
        assignments = [f"{key}={value}" for key, value in self._env.items()]
        inside = f'cd {shlex.quote(self._image.workdir)} && exec "$@"'
        user = ["chroot", f"--userspec={self._image.user}", "--groups=", str(self._image.root)]
        return [*user, "/usr/bin/env", "-i", *assignments, "/bin/sh", "-ec", inside, "sh", *words]

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code."""
        return self._outer.wait(timeout_s)

    def execute(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run words inside, as `docker exec` does."""
        enter = ["nsenter", f"--target={self._first()}", "--mount", "--pid", *self._command(words)]
        return subprocess.run(enter, capture_output=True, text=True, timeout=60, check=False)

    def is_healthy(self) -> bool:
        """Run the image's health check."""
        return self._outer.poll() is None and self.execute(self._image.health).returncode == 0

    def stop(self, timeout_s: float) -> int:
        """Send the image's stop signal to its first process, and return the exit code."""
        os.kill(self._first(), signal.Signals[self._image.stop_signal])
        return self.wait(timeout_s)

    def kill(self) -> None:
        """End it if it still runs."""
        if self._outer.poll() is None:
            self._outer.kill()
            self._outer.wait()

    def _first(self) -> int:
        """Return the id of its first process, once `unshare` has made it."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        while not (found := children.read_text()):
            assert self._outer.poll() is None, self.log
            time.sleep(0.01)
        return int(found)
