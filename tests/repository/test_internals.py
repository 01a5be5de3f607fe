"""The internals of other libraries that the code uses: members that a library can change without notice.

`INTERNALS` lists them, with the version in which each was checked. To raise an upper bound in pyproject.toml, read what
the library changed in these members, run the tests of the named file, and write the new version here. Ruff (SLF001)
finds private members that are used from outside; the first test finds those that a subclass inherits or overrides.
"""

import ast
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.repository.test_packages import OURS, SOURCES, TOP, module_name

PRIVATE = re.compile(r"_[a-z]\w*")


@dataclass(frozen=True)
class Internals:
    """Members of one class of a library, or a name in one of its modules, used in one file."""

    distribution: str
    checked: str
    """The version."""
    where: str
    """`module:name`."""
    members: tuple[str, ...]
    """Of the class; empty if the name itself is the internal."""
    used_in: str
    why: str


INTERNALS = [
    Internals(
        "langchain-core",
        "1.7.2",
        "langchain_core.runnables.base:Runnable",
        ("_atransform_stream_with_config",),
        "graphs/run_runnable.py",
        "LangChain's runnables report their streams to callbacks by it; it is not documented",
    ),
    Internals(
        "langchain-core",
        "1.7.2",
        "langchain_core.runnables.config:var_child_runnable_config",
        (),
        "chains/reply.py",
        "no public function says which callbacks apply to the current call",
    ),
    Internals(
        "langchain-openai",
        "1.7.3",
        "langchain_openai.chat_models.base:BaseChatOpenAI",
        ("_astream", "_convert_chunk_to_generation_chunk"),
        "chains/reply.py",
        "`astream` works for callbacks at every token, even if there are none; the conversion drops reasoning",
    ),
    Internals(
        "langchain-anthropic",
        "1.7.7",
        "langchain_anthropic.chat_models:ChatAnthropic",
        ("_async_client",),
        "chains/anthropic_api.py",
        "its own client shares a pool between event loops and is never closed; no other can be passed in",
    ),
    Internals(
        "anthropic",
        "2.11.0",
        "anthropic._base_client:BaseClient",
        ("_custom_headers",),
        "chains/anthropic_api.py",
        "it takes headers from the environment, whatever is passed in",
    ),
    Internals(
        "aiohttp",
        "3.14.5",
        "aiohttp.client_proto:ResponseHandler",
        ("read_timeout", "start_timeout"),
        "chains/blocks.py",
        "a timeout cannot be changed after the request is sent; a timer for each block costs as much as a token",
    ),
    Internals(
        "aiohttp",
        "3.14.5",
        "aiohttp.client_reqrep:ClientResponse",
        ("_connection", "_protocol"),
        "chains/interim.py",
        "the number of informational responses has no limit",
    ),
    Internals(
        "uvicorn",
        "0.54.0",
        "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
        ("_start_asgi_task", "_unset_keepalive_if_required", "cycle", "flow", "pipeline", "parser", "scope", "headers"),
        "api/connection.py",
        "limits on what a client sends and reads depend on the protocol's state",
    ),
    Internals(
        "uvicorn",
        "0.54.0",
        "uvicorn.protocols.http.httptools_impl:RequestResponseCycle",
        ("waiting_for_100_continue", "response_started", "response_complete", "keep_alive"),
        "api/connection.py",
        "limits depend on the response's state; responses to HTTP/1.0 are framed wrongly",
    ),
    Internals(
        "uvicorn",
        "0.54.0",
        "uvicorn.protocols.http.flow_control:FlowControl",
        ("pause_reading", "resume_reading", "resume_writing", "read_paused", "write_paused"),
        "api/transport.py",
        "reading continues only while the connection has little left to send",
    ),
    Internals(
        "langserve",
        "0.3.3",
        "langserve.api_handler:APIHandler",
        ("_get_config_and_input", "_runnable"),
        "api/langserve.py",
        "after LangServe's own checks, streams of runs are framed here in a tenth of the time",
    ),
    Internals(
        "fastapi",
        "0.165.0",
        "fastapi.routing:APIRoute",
        ("body_field", "get_route_handler"),
        "api/body_route.py",
        "bodies are repaired before FastAPI refuses them",
    ),
    Internals(
        "starlette",
        "1.10.0",
        "starlette.middleware.cors:CORSMiddleware",
        ("preflight_response",),
        "api/cors.py",
        "preflight requests from a refused origin are not allowed private networks",
    ),
]

BEHAVIOR = {"langgraph": "1.2.22", "langgraph-checkpoint": "4.3.2"}
"""Bounded for what they do: the content of checkpoints (store/sqlite/checkpoints.py), and that an interrupted node
restarts from its top (graphs/machine/nodes.py)."""

LISTED = {name for one in INTERNALS for name in one.members if PRIVATE.fullmatch(name)}


def own_names(node: ast.ClassDef) -> Iterator[str]:
    """Yield names that a class defines, or uses of `self`."""
    for part in ast.walk(node):
        match part:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                yield name


@cache
def library_names(base: type) -> set[str]:
    """Yield names that a class of a library defines, or uses of `self`; none for any other class."""
    if base.__module__.partition(".")[0] in {*OURS, *sys.stdlib_module_names}:
        return set()
    with suppress(OSError):  # compiled
        return {*vars(base), *re.findall(r"\bself\.(\w+)", inspect.getsource(base))}
    return set(vars(base))


def inherited() -> set[str]:
    """Yield private members of libraries that our classes inherit or override."""
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                cls = getattr(importlib.import_module(module_name(path)), node.name)
                found |= set(own_names(node)) & {name for base in cls.__mro__ for name in library_names(base)}
    return {name for name in found if PRIVATE.fullmatch(name)}


def test_every_private_member_of_another_library_is_listed() -> None:
    excused = [line for path in SOURCES for line in path.read_text().splitlines() if "noqa: SLF001" in line]
    assert [line for line in excused if not any(f".{name}" in line for name in LISTED)] == []
    assert inherited() - LISTED == set()


@pytest.mark.parametrize("one", INTERNALS, ids=lambda one: one.where.partition(":")[2])
def test_every_listed_member_exists_in_the_checked_version(one: Internals) -> None:
    assert metadata.version(one.distribution) == one.checked, (
        f"check `{one.where}` again, as described at the top of this file"
    )
    name, _, owner = one.where.partition(":")
    module = importlib.import_module(name)
    assert hasattr(module, owner)
    assert [member for member in one.members if not re.search(rf"\b{member}\b", inspect.getsource(module))] == []
    used_in = (TOP / one.used_in).read_text()
    assert [name for name in one.members if PRIVATE.fullmatch(name) and name not in used_in] == []


def test_libraries_whose_internals_are_used_have_an_upper_bound() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    bounded = {one.name for one in map(Requirement, texts) if any(each.operator == "<" for each in one.specifier)}
    carried = {"anthropic"}  # by langchain-anthropic
    assert {one.distribution for one in INTERNALS} | set(BEHAVIOR) == (bounded | carried) - {"sse-starlette"}
    assert {name: metadata.version(name) for name in BEHAVIOR} == BEHAVIOR
