"""Runs through LangServe's client: `THREADHOLD_URL=http://127.0.0.1:3000 python examples/langserve_client.py`."""

import os

from langserve import RemoteRunnable

assistant = RemoteRunnable(os.environ.get("THREADHOLD_URL", "http://127.0.0.1:3000") + "/assistant")
for chunk in assistant.stream({"content": "What is a run?", "instructions": "Be brief."}):
    if chunk["event"] == "thread.message.delta":
        print(chunk["data"]["delta"]["content"][0]["text"]["value"], end="", flush=True)
print()
