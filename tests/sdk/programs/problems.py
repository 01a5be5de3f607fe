"""A program for the Assistants API: handles the SDK's error classes."""

import json

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
assistant = client.beta.assistants.create(model="gpt-4")
thread = client.beta.threads.create()
errors = []

for attempt in (
    lambda: client.beta.assistants.retrieve("asst_nobody"),
    lambda: client.beta.threads.retrieve("thread_nowhere"),
    lambda: client.beta.threads.runs.create(thread_id=thread.id, assistant_id="asst_nobody"),
    lambda: client.beta.threads.runs.retrieve("run_never", thread_id=thread.id),
    lambda: client.beta.threads.messages.retrieve("msg_none", thread_id=thread.id),
    lambda: client.beta.assistants.create(model="gpt-4", extra_body={"colour": "red"}),
    lambda: client.beta.assistants.create(model="gpt-4", tools=[{"type": "browser"}]),
    lambda: client.beta.assistants.create(model="gpt-4", name="x" * 257),
    lambda: client.beta.assistants.list(limit=101),
    lambda: client.beta.threads.messages.create(thread.id, role="robot", content="Hi"),
    lambda: client.beta.threads.runs.submit_tool_outputs("run_never", thread_id=thread.id, tool_outputs=[]),
):
    try:
        attempt()
    except openai.APIStatusError as problem:
        errors.append([type(problem).__name__, problem.status_code, problem.type, problem.param])
    else:
        errors.append("no error")

print(json.dumps({"errors": errors}))
