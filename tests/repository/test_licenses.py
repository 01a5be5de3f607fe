"""The server's packages can be used as documented: no GPL, and the README and `docs/` name every restriction."""

import re
import subprocess
import sys

from packaging.utils import canonicalize_name

from ops.licenses import license_of, packages
from tests.repository.test_documents import DOCS, README, section
from tests.repository.test_packages import TOP
from tests.repository.test_pins import EMBEDDINGS, ENGINE, RUNTIME, pins

PACKAGES = sorted(pins(*RUNTIME, ENGINE, EMBEDDINGS))
OPEN = re.compile(
    r"0BSD|Apache|BSD|CC0|CNRI|ISC|MIT|MPL|Mozilla Public|PSF|Public Domain|Python Software Foundation|Unlicense|Zlib"
)


def test_no_package_is_under_the_gpl() -> None:
    licenses = {name: license_of(name) for name in PACKAGES}
    assert {name: text for name, text in licenses.items() if re.search(r"(?<!L)GPL|GNU (?!Lesser)|Affero", text)} == {}


def test_every_restrictive_license_is_documented() -> None:
    restricting = [name for name in PACKAGES if not OPEN.search(license_of(name))]
    for page in (README, DOCS / "operate.md"):
        text = section(page, "Licenses")
        assert [name for name in restricting if f"`{name}`" not in text] == []
    assert restricting == ["langserve"]


def test_the_command_lists_every_runtime_package() -> None:
    done = subprocess.run(
        [sys.executable, TOP / "server.py", "licenses"], capture_output=True, text=True, check=True, timeout=60
    )
    listed = {canonicalize_name(line.split()[0]) for line in done.stdout.splitlines()[:-1]}
    assert set(pins(*RUNTIME[:1], ENGINE, EMBEDDINGS)) - listed == set()
    assert "LangServe (not an open-source license)" in done.stdout
    assert "hosted or managed service" in done.stdout
    assert packages() == listed
