"""A program for the Assistants API: its model fails in mid-stream."""

import json

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
assistant = client.beta.assistants.create(model="gpt-4")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
events, raised = [], None
try:
    with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        events = [event.event for event in stream]
except openai.APIError as problem:
    raised = problem.message
run = client.beta.threads.runs.list(thread.id).data[0]

print(json.dumps({"events": events[-4:], "raised": raised, "run": run.status, "code": run.last_error.code}))
