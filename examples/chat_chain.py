"""A chat chain without a server: `MODEL_URL=http://127.0.0.1:1234/v1 python examples/chat_chain.py`."""

import os

from chains import build_chat_chain

chain = build_chat_chain(os.environ["MODEL_URL"])
for text in chain.stream({"system": "Be brief.", "human": "What is a chain?"}):
    print(text, end="", flush=True)
print()
