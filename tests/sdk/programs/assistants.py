"""A program for the Assistants API: creates, reads, changes, lists and deletes assistants."""

import json

from openai import OpenAI

client = OpenAI()

made = client.beta.assistants.create(
    model="gpt-4-1106-preview",
    name="Math Tutor",
    instructions="You are a personal math tutor.",
    tools=[{"type": "code_interpreter"}],
    metadata={"team": "a"},
)
read = client.beta.assistants.retrieve(made.id)
changed = client.beta.assistants.update(made.id, name="Tutor", metadata={"team": "b"})
others = [client.beta.assistants.create(model="gpt-4", name=f"Helper {n}").id for n in range(5)]
listed = [assistant.id for assistant in client.beta.assistants.list(limit=2)]
oldest_first = [assistant.id for assistant in client.beta.assistants.list(order="asc", limit=100)]
deleted = client.beta.assistants.delete(made.id)
left = [assistant.id for assistant in client.beta.assistants.list()]

print(
    json.dumps(
        {
            "same": read.model_dump() == made.model_dump(),
            "object": made.object,
            "id": made.id,
            "name": changed.name,
            "instructions": changed.instructions,
            "metadata": changed.metadata,
            "tools": [tool.type for tool in changed.tools],
            "listed": listed == [*reversed(others), made.id],
            "oldest_first": oldest_first == [made.id, *others],
            "deleted": [deleted.deleted, deleted.object],
            "left": left == list(reversed(others)),
        }
    )
)
