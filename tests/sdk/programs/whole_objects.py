"""Sends response objects back, where the server ignores unknown fields. `extra_body` has what the SDK's methods have no
parameters for."""

import json

from openai import OpenAI

client = OpenAI()
beta = client.beta
assistant = beta.assistants.create(
    model="m",
    name="Tutor",
    tools=[{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}],
    metadata={"a": "b"},
)


def known(made):
    return {name: value for name, value in made.to_dict().items() if name != "created_at"}


updated = beta.assistants.update(assistant.id, extra_body=assistant.to_dict())
cloned = beta.assistants.create(model="m", extra_body=assistant.model_dump(mode="json"))

thread = beta.threads.create(messages=[{"role": "user", "content": "Hello"}], metadata={"user": "u1"})
run = beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
messages = [message.to_dict() for message in beta.threads.messages.list(thread.id, order="asc")]
dumped = [message.model_dump(mode="json") for message in beta.threads.messages.list(thread.id, order="asc")]
answer = beta.threads.with_raw_response.create(extra_body={**thread.to_dict(), "messages": messages})
copy = answer.parse()
copied = [message.content[0].text.value for message in beta.threads.messages.list(copy.id, order="asc")]

both = beta.threads.create_and_run_poll(assistant_id=assistant.id, thread={**copy.to_dict(), "messages": dumped})
again = beta.threads.runs.create(
    thread.id, assistant_id=assistant.id, extra_body={**run.to_dict(), "stream_options": {"include_usage": True}}
)

print(
    json.dumps(
        {
            "assistant": [
                known(updated) == known(assistant),
                cloned.id != assistant.id,
                cloned.tools == assistant.tools,
            ],
            "thread": [copy.id != thread.id, copy.metadata],
            "messages": copied,
            "ignored": answer.headers["x-threadhold-ignored"].split(", ")[-3:],
            "runs": [both.status, again.object],
        }
    )
)
