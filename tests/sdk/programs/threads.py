"""A program for the Assistants API: keeps a conversation in a thread, and pages through it."""

import json

from openai import OpenAI

client = OpenAI()

thread = client.beta.threads.create(
    messages=[{"role": "user", "content": "Hello", "metadata": {"n": "0"}}], metadata={"user": "u1"}
)
changed = client.beta.threads.update(thread.id, metadata={"user": "u2"})
sent = [
    client.beta.threads.messages.create(thread.id, role="user", content=f"Message {number}").id for number in range(24)
]
newest_first = [message.id for message in client.beta.threads.messages.list(thread.id, limit=10)]
oldest_first = [message.id for message in client.beta.threads.messages.list(thread.id, limit=7, order="asc")]
page = client.beta.threads.messages.list(thread.id, limit=3, after=sent[-1])
before = client.beta.threads.messages.list(thread.id, limit=3, before=sent[0])
noted = client.beta.threads.messages.update(sent[0], thread_id=thread.id, metadata={"seen": "yes"})
read = client.beta.threads.messages.retrieve(sent[0], thread_id=thread.id)
deleted = client.beta.threads.delete(thread.id)

print(
    json.dumps(
        {
            "thread": [thread.object, thread.metadata, changed.metadata],
            "newest_first": newest_first[:-1] == list(reversed(sent)) and len(newest_first) == 25,
            "oldest_first": oldest_first == list(reversed(newest_first)),
            "page": [message.id for message in page.data] == list(reversed(sent[-4:-1])),
            "before": [message.id for message in before.data] == list(reversed(sent[1:4])),
            "noted": [noted.metadata, read.metadata],
            "text": read.content[0].text.value,
            "role": read.role,
            "deleted": [deleted.deleted, deleted.object],
        }
    )
)
