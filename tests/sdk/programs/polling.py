"""A program for the Assistants API: runs an assistant, waits for the end, reads the answer and the steps."""

import json

from openai import OpenAI

client = OpenAI()

assistant = client.beta.assistants.create(model="gpt-4", instructions="Be short.")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "What is 1 + 1?"}])
run = client.beta.threads.runs.create_and_poll(
    thread_id=thread.id, assistant_id=assistant.id, additional_instructions="Be kind.", poll_interval_ms=20
)
messages = client.beta.threads.messages.list(thread.id).data
steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id).data
step = client.beta.threads.runs.steps.retrieve(steps[0].id, thread_id=thread.id, run_id=run.id)
noted = client.beta.threads.runs.update(run.id, thread_id=thread.id, metadata={"rated": "5"})
runs = list(client.beta.threads.runs.list(thread.id))
both = client.beta.threads.create_and_run_poll(
    assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Again?"}]}, poll_interval_ms=20
)
answer = client.beta.threads.messages.list(both.thread_id, limit=1).data[0]

print(
    json.dumps(
        {
            "run": [run.object, run.status, run.model, run.instructions],
            "times": [bool(run.started_at), bool(run.completed_at), run.expires_at],
            "usage": run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens,
            "texts": [message.content[0].text.value for message in messages],
            "by": [
                [message.role, message.assistant_id == assistant.id, message.run_id == run.id] for message in messages
            ],
            "step": [step.type, step.status, step.step_details.message_creation.message_id == messages[0].id],
            "noted": noted.metadata,
            "runs": [one.id for one in runs] == [run.id],
            "both": [both.status, answer.content[0].text.value],
        }
    )
)
