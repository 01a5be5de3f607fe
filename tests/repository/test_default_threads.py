"""asyncio's default threads are shared by all owners, so no work runs there that an owner can make slow or frequent.

Such work belongs in a `FairThreads` of `fairness/fair_limits.py`, which owners share fairly.
"""

import ast

from tests.repository.test_packages import SOURCES, TOP

ALLOWED = {
    "api/app.py": "imports LangServe, once",
    "api/description.py": "makes the OpenAPI document, once",
    "api/metrics.py": "formats the metrics, for clients with the metrics key",
    "api/readiness.py": "asks for the free space, at most twice a second",
    "api/serving.py": "imports and builds the app, once",
    "api/tracing.py": "ends the tracing",
    "chains/calls/modes.py": "imports modules, once",
    "chains/engine.py": "reads the head of a model before it is loaded",
    "chains/provider.py": "makes a model's client, one at a time, fairly by owner",
    "chains/transport.py": "reads the trusted certificates, once",
    "graphs/tools/lazy_caller.py": "makes the client for actions, once",
    "ops/check.py": "a command of its own",
    "store/sqlite/database.py": "opens and closes the database",
    "store/sqlite/store.py": "closes the index",
    "fairness/fair_limits.py": "ends threads",
    "workers/pool.py": "ends processes",
}


def test_only_listed_files_use_the_default_threads() -> None:
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_to_thread = isinstance(node, ast.Attribute) and node.attr == "to_thread"
            if is_to_thread or (isinstance(node, ast.Call) and _runs_in_default(node)):
                found.add(path.relative_to(TOP).as_posix())
    assert found == ALLOWED.keys()


def _runs_in_default(call: ast.Call) -> bool:
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "run_in_executor" and call.args):
        return False
    return isinstance(call.args[0], ast.Constant)
