"""Every queue, lock, pool and cache of the server is listed here, with what keeps one owner from delaying another.

A new one fails this test until its file is listed. `fairness/fair_limits.py` has the standard forms: limits and
threads that owners share fairly; `fairness/owned_cache.py` is a cache from which no owner can evict another's entries.
"""

import ast

from tests.repository.test_packages import SOURCES, TOP

RESOURCES = {
    "BoundedSemaphore",
    "Condition",
    "ModelFacts",
    "LifoQueue",
    "Lock",
    "LoopScheduler",
    "OrderedDict",
    "OwnedCache",
    "PriorityQueue",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RecentModels",
    "Semaphore",
    "FairThreads",
    "FairLimit",
    "SimpleQueue",
    "ThreadPoolExecutor",
    "WeakKeyDictionary",
    "WeakValueDictionary",
    "cache",
    "deque",
    "lru_cache",
}

SHARED = {
    "api/access.py": "forms: slots are shared fairly by owner, half of them for one of several",
    "api/app.py": "large bodies: a fixed number for each owner",
    "api/broken_http.py": "bodies of a few refusals, none of which contains a client's text",
    "api/body_memory.py": "bytes of bodies: one body for each owner, half of the rest for one of several",
    "api/body_threads.py": "shared fairly by owner",
    "api/connection_limit.py": "connections: shared fairly by owner, and idle ones are replaced per owner",
    "api/description.py": "the OpenAPI document, which is created once",
    "api/request_starts.py": "shared fairly by owner",
    "api/small_reads.py": "shared fairly by owner",
    "api/model_calls.py": "a semaphore for each owner",
    "chains/response_slots.py": "shared fairly by owner",
    "chains/bridge.py": "one call's chunks",
    "chains/builtin.py": "one entry for each call that executes",
    "chains/calls/capabilities.py": "learned by each owner, and a lock for each owner and model",
    "chains/calls/role_negotiation.py": "learned by each owner",
    "chains/chat.py": "learned by each owner",
    "chains/context_window.py": "what the built-in engine or the upstream reports; no client writes it",
    "chains/embedding_router.py": "shared fairly by owner",
    "chains/embeddings.py": "shared fairly by owner",
    "chains/engine.py": "the last lines of an engine's output",
    "chains/engines.py": "one load of a model at a time; models are configured by the operator",
    "chains/langchain_model.py": "learned by each owner",
    "chains/minilm.py": "shared fairly by owner",
    "chains/models.py": "learned by each owner",
    "chains/provider.py": "clients are made one at a time, fairly by owner; an evicted one is made again soon",
    "chains/model_facts.py": "a table for each owner",
    "chains/relay.py": "one answer's blocks, limited by backpressure",
    "chains/slots.py": "a queue for each owner",
    "chains/tokens.py": "learned by each owner",
    "chains/upstream.py": "learned by each owner",
    "documents/codepages.py": "a table of a fixed number of code pages",
    "documents/package.py": "in the process that reads one file",
    "graphs/admission.py": "runs: shared fairly by owner; the deque of times has a fixed length",
    "chains/block_scheduling.py": "shared fairly by owner",
    "graphs/fanout.py": "shared fairly by owner, then by run",
    "graphs/orphans.py": "a lock for each run",
    "graphs/run_context.py": "a lock for each run",
    "graphs/starts.py": "one heavy run for each owner",
    "graphs/stored_events.py": "shared fairly by owner",
    "graphs/tools/action.py": "parsed documents: each owner evicts its own",
    "graphs/tools/action_caller.py": "shared fairly by owner",
    "graphs/tools/lazy_caller.py": "makes the client for actions, once",
    "graphs/tools/network.py": "shared fairly by owner",
    "retrieval/attachments.py": "a lock for each thread",
    "retrieval/indexing.py": "shared fairly by owner",
    "retrieval/ingestion.py": "shared fairly by owner",
    "retrieval/upload_parts.py": "a lock for each upload",
    "store/folding.py": "single characters: an evicted one is folded again in microseconds",
    "store/free_space.py": "held for arithmetic only",
    "store/sqlite/fulltext.py": "counts of words; held for one statement without text of clients",
    "store/sqlite/large_reads.py": "shared fairly by owner",
    "store/sqlite/matrices.py": "stores of those who use the most memory are dropped first; a lock for each store",
    "store/sqlite/readers.py": "shared fairly by owner",
    "store/sqlite/deferred_deletes.py": "one removal at a time, in slices that alternate with all other writes",
    "store/sqlite/vectors.py": "one clean-up at a time, in slices that alternate with all other writes",
    "store/sqlite/commit_queues.py": "a queue for each owner, and equal shares of time",
    "store/sqlite/writer.py": "owners get equal shares of the time of its thread",
    "telemetry/version.py": "one value",
    "telemetry/log.py": "a fixed number of lines; further ones are counted and dropped",
    "fairness/loop_scheduler.py": "shared fairly by owner, then by key",
    "fairness/owned_cache.py": "each owner evicts its own entries",
    "fairness/per_loop.py": "one entry for each event loop",
    "fairness/fair_limits.py": "shared fairly by owner",
    "wire/ids.py": "one value for each second",
    "workers/pool.py": "a queue for each owner",
}


def test_every_shared_resource_is_listed() -> None:
    found = {path.relative_to(TOP).as_posix() for path in SOURCES if _has_resource(path.read_text(encoding="utf-8"))}
    assert sorted(found - SHARED.keys()) == [], "list the file with what keeps one owner from delaying another"
    assert sorted(SHARED.keys() - found) == [], "these files have no shared resource"


def _has_resource(source: str) -> bool:
    return any(_name(node) in RESOURCES for node in ast.walk(ast.parse(source)))


def _name(node: ast.AST) -> str | None:
    """Return the name of what is called or used as a decorator, without module and type parameters."""
    match node:
        case ast.Call(func=ast.Subscript(value=function)) | ast.Call(func=function):
            found: ast.AST = function
        case ast.FunctionDef(decorator_list=[*_, decorator]) | ast.AsyncFunctionDef(decorator_list=[*_, decorator]):
            found = decorator
        case _:
            return None
    match found:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return None
