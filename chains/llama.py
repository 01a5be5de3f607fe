"""The program of an engine's process: llama.cpp's HTTP server, through xllamacpp. Run by `chains/engine.py`, alone.

It reads one line of JSON (what to load), writes one (`url` and `props`, or `error`), and ends with its standard input,
so that it never outlives the server, however that ended. It is a process of its own because xllamacpp holds the
interpreter's lock for as long as it loads or ends a model, and a failed assertion of llama.cpp ends whatever it is in.
"""

import http.client
import json
import os
import sys
import time
from typing import Any

__all__: list[str] = []


def _serve(asked: dict[str, Any]) -> Any:
    """Load the model and serve it on a free port of 127.0.0.1. Returns llama.cpp's server."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = asked["path"]
    params.model_alias = {asked["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [asked["key"]]
    params.cors_origins = ""
    params.cors_credentials = False
    params.ui = False
    params.offline = True
    # Each answer has a context of its own. When they share one, and fill it together, llama.cpp fails all of them.
    params.n_ctx = asked["context_size"] * asked["parallel"]
    params.n_parallel = asked["parallel"]
    params.kv_unified = False
    params.ctx_shift = False  # what does not fit is refused, and shortened with sense by the server
    params.n_batch = asked["batch"]
    params.n_ubatch = asked["batch"]
    params.cache_ram_mib = asked["cache_mib"]
    params.cpuparams.n_threads = asked["threads"]
    params.cpuparams_batch.n_threads = asked["threads"]
    if asked["demo"]:  # what its makers advise; without a penalty so small a model goes round in circles
        params.sampling.temp, params.sampling.top_p, params.sampling.penalty_repeat = 0.2, 0.9, 1.1
    params.warmup = False  # the first prompt warms it up as well
    params.verbosity = 1  # errors
    return xllamacpp.Server(params)


def _props(address: str, key: str) -> dict[str, Any]:
    """What llama.cpp says of the model and of what it settled, such as the context it has left."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {key}"})
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        return told
    finally:
        connection.close()


def _tell(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _main() -> None:
    asked = json.loads(sys.stdin.readline())
    sys.path[:] = asked["search_path"]  # the engine's package is where the server's own are, wherever that is
    try:
        server = _serve(asked)
        _tell(url=f"{server.listening_address}/v1", props=_props(server.listening_address, asked["key"]))
    except ImportError as error:
        _tell(error="import", why=str(error))
    except Exception as error:
        time.sleep(0.2)  # a thread of llama.cpp's writes its log, and may not be done with the reason yet
        _tell(error="load", why=str(error))
    else:
        sys.stdin.read()
    os._exit(0)  # llama.cpp's own way out would wait for requests that nobody reads any more


if __name__ == "__main__":
    _main()
