"""The program of an engine's process: llama.cpp's HTTP server, through xllamacpp. Only `chains/engine.py` runs it.

It reads one line of JSON (what to load) and writes one (`url` and `props`, or `error` and `why`). It ends when its
standard input closes, so that it never outlives the server. It is a separate process because xllamacpp holds the
interpreter's lock while it loads or ends a model, and a failed assertion of llama.cpp ends the process.
"""

import http.client
import json
import os
import sys
import time
from typing import Any, TypedDict

__all__ = ["EngineReport", "EngineSettings"]


class EngineSettings(TypedDict):
    """What to load, and how; see `chains.engine`."""

    search_path: list[str]
    path: str
    name: str
    demo: bool
    key: str
    context_size: int
    parallel: int
    threads: int
    batch: int
    cache_mib: int


class EngineReport(TypedDict, total=False):
    """The address and llama.cpp's `/props` of a loaded model; or what failed (`import`, `load`, `ended`), and why."""

    url: str
    props: dict[str, object]
    error: str
    why: str


def _serve(settings: EngineSettings) -> Any:  # xllamacpp has no types
    """Load the model and serve it on a free port of 127.0.0.1. Returns llama.cpp's server."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.cors_origins = ""
    params.cors_credentials = False
    params.ui = False
    params.offline = True
    # Each answer has its own context. If answers share one and fill it together, all of them fail in llama.cpp.
    params.n_ctx = settings["context_size"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    params.kv_unified = False
    params.ctx_shift = False  # a prompt that does not fit is refused, so that the server can shorten it
    params.n_batch = settings["batch"]
    params.n_ubatch = settings["batch"]
    params.cache_ram_mib = settings["cache_mib"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    if settings["demo"]:  # its makers' recommendation; without a penalty, so small a model repeats itself
        params.sampling.temp, params.sampling.top_p, params.sampling.penalty_repeat = 0.2, 0.9, 1.1
    params.warmup = False  # the first prompt warms it up as well
    params.verbosity = 1  # errors
    return xllamacpp.Server(params)


def _props(address: str, key: str) -> dict[str, object]:
    """Return what llama.cpp reports about the model and its resulting settings, such as the context length."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {key}"})
        props: dict[str, object] = json.loads(connection.getresponse().read())
        return props
    finally:
        connection.close()


def _report(report: EngineReport) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def _main() -> None:
    settings: EngineSettings = json.loads(sys.stdin.readline())
    sys.path[:] = settings["search_path"]  # so that xllamacpp is found where the server's own packages are
    try:
        server = _serve(settings)
        props = _props(server.listening_address, settings["key"])
        _report({"url": f"{server.listening_address}/v1", "props": props})
    except ImportError as error:
        _report({"error": "import", "why": str(error)})
    except Exception as error:
        time.sleep(0.2)  # llama.cpp's log thread may not have written the reason yet
        _report({"error": "load", "why": str(error)})
    else:
        sys.stdin.read()
    os._exit(0)  # llama.cpp's own shutdown would wait for requests whose clients are gone


if __name__ == "__main__":
    _main()
