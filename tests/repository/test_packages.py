"""The shape of the code: exports, lengths of files, import directions, names."""

import ast
import importlib
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

TOP = Path(__file__).parents[2]
PACKAGES = (
    "api",
    "chains",
    "documents",
    "fairness",
    "graphs",
    "ops",
    "retrieval",
    "store",
    "telemetry",
    "wire",
    "workers",
)
OURS = (*PACKAGES, "server", "web")
SOURCES = [path for package in PACKAGES for path in sorted((TOP / package).rglob("*.py"))] + [TOP / "server.py"]
MAX_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def in_export_order(name: str) -> tuple[int, str]:
    """Sort names as the linter does: CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


# One test for all modules: as a test for each, they would be a tenth of the suite's tests.
def test_modules_export_sorted_names_that_exist() -> None:
    offers = {path: getattr(importlib.import_module(module_name(path)), "__all__", None) for path in SOURCES}
    silent = {path for path, offered in offers.items() if offered is None and path.name == "__init__.py"}
    assert [path for path in silent if has_imports(path)] == [], "a package with imports must have `__all__`"
    exports = {module_name(path): offered for path, offered in offers.items() if offered is not None}
    assert exports == {name: sorted(set(offered), key=in_export_order) for name, offered in exports.items()}
    missing = [(name, each) for name, offered in exports.items() for each in offered if not has_name(name, each)]
    assert missing == []


def has_imports(path: Path) -> bool:
    return any(isinstance(node, ast.ImportFrom | ast.Import) for node in ast.parse(path.read_text()).body)


def has_name(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)


def test_modules_have_a_docstring_and_are_short() -> None:
    texts = {module_name(path): path.read_text() for path in SOURCES}
    assert [name for name, text in texts.items() if not ast.get_docstring(ast.parse(text))] == []
    assert {name: len(text.splitlines()) for name, text in texts.items() if len(text.splitlines()) > MAX_LINES} == {}


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


def test_only_the_backend_s_choice_imports_a_backend() -> None:
    backends = {f"store.{path.parent.name}" for path in (TOP / "store").glob("*/__init__.py")} - {"store.ports"}
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    protected = [each for each in contracts if each.get("allowed_importers") == ["store.backend"]]
    assert [set(each["protected_modules"]) for each in protected] == [backends]


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        f"{path.relative_to(TOP)}:{node.lineno}"
        for path in SOURCES
        if path.name != "server.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert readers == []
