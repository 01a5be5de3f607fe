"""A program for the Assistants API: starts a long run and cancels it."""

import json
import time

from openai import BadRequestError, OpenAI

client = OpenAI()

assistant = client.beta.assistants.create(model="gpt-4")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Count to a million."}])
run = client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id)
while run.status == "queued":
    time.sleep(0.02)
    run = client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)
refused = []
for attempt in (
    lambda: client.beta.threads.messages.create(thread.id, role="user", content="Faster!"),
    lambda: client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id),
):
    try:
        attempt()
    except BadRequestError as problem:
        refused.append(problem.body["message"].replace(thread.id, "THREAD").replace(run.id, "RUN"))
asked = client.beta.threads.runs.cancel(run.id, thread_id=thread.id)
while asked.status in ("queued", "in_progress", "cancelling"):
    time.sleep(0.02)
    asked = client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)
try:
    client.beta.threads.runs.cancel(run.id, thread_id=thread.id)
except BadRequestError as problem:
    refused.append(problem.body["message"])
client.beta.threads.messages.create(thread.id, role="user", content="Thank you.")

print(json.dumps({"status": asked.status, "cancelled_at": bool(asked.cancelled_at), "refused": refused}))
