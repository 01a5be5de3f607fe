"""The shape of the code: exports, lengths of files, import directions, names."""

import ast
import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGES = ("api", "chains", "documents", "graphs", "ops", "retrieval", "store", "telemetry", "wire", "workers")
OURS = (*PACKAGES, "server", "web")
SOURCES = [path for package in PACKAGES for path in sorted((TOP / package).rglob("*.py"))] + [TOP / "server.py"]
MAX_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def in_house_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order that the linter keeps, too."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_offers_what_it_says_in_order(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    offered = getattr(module, "__all__", None)
    if offered is None:
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom | ast.Import)]
        assert path.name != "__init__.py" or not imports, "a package that offers something says what"
        return
    assert offered == sorted(set(offered), key=in_house_order)
    assert [name for name in offered if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_says_what_it_is_for_and_is_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= MAX_LINES


def test_no_other_distribution_owns_our_names() -> None:
    owners = metadata.packages_distributions()
    assert {name: owners[name] for name in OURS if set(owners.get(name, [])) - {"threadhold"}} == {}
    assert not set(OURS) & sys.stdlib_module_names


def test_packages_import_downwards_only() -> None:
    checked = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_the_ports_of_the_store_import_no_backend() -> None:
    program = "import sys, store.ports; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=True)
    backends = {name for name in imported.stdout.split() if name.startswith(("store.", "sqlite", "numpy"))}
    assert {name for name in backends if not name.startswith("store.ports.")} == {"store.ports"}


def test_of_the_store_only_the_choice_of_a_backend_imports_one() -> None:
    importers = {path.name for path in (TOP / "store").glob("*.py") if "from store.sqlite" in path.read_text()}
    assert importers == {"backend.py"}


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        f"{path.relative_to(TOP)}:{node.lineno}"
        for path in SOURCES
        if path.name != "server.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert readers == []
