"""A program for the API's first version: files belong to assistants and messages."""

import json

from openai import OpenAI

client = OpenAI()

cats = client.files.create(file=("cats.txt", b"Cats purr."), purpose="assistants")
dogs = client.files.create(file=("dogs.txt", b"Dogs bark."), purpose="assistants")
assistant = client.beta.assistants.create(model="gpt-4", tools=[{"type": "retrieval"}], file_ids=[cats.id])
added = client.beta.assistants.files.create(assistant.id, file_id=dogs.id)
listed = [file.id for file in client.beta.assistants.files.list(assistant.id, order="asc", limit=1)]
read = client.beta.assistants.retrieve(assistant.id)
removed = client.beta.assistants.files.delete(cats.id, assistant_id=assistant.id)
thread = client.beta.threads.create()
message = client.beta.threads.messages.create(thread.id, role="user", content="Hi", file_ids=[dogs.id])
attached = [file.id for file in client.beta.threads.messages.files.list(message.id, thread_id=thread.id)]

print(
    json.dumps(
        {
            "made": assistant.file_ids == [cats.id],
            "added": [added.object, added.id == dogs.id],
            "listed": listed == [cats.id, dogs.id],
            "read": read.file_ids == [cats.id, dogs.id],
            "removed": removed.deleted,
            "message": message.file_ids == [dogs.id],
            "attached": attached == [dogs.id],
        }
    )
)
