"""Streaming with abort: `THREADHOLD_URL=http://127.0.0.1:3000 python examples/stream_and_stop.py`."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("THREADHOLD_URL", "http://127.0.0.1:3000") + "/v1", api_key="any")
assistant = client.beta.assistants.create(model="", instructions="Be long.")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Count to a thousand."}])
run_id = ""
for event in client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id, stream=True):
    if event.event == "thread.run.created":
        run_id = event.data.id
    if event.event == "thread.message.delta":
        client.beta.threads.runs.cancel(run_id, thread_id=thread.id)
        break
print(client.beta.threads.runs.poll(run_id, thread_id=thread.id).status)
