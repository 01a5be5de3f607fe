"""A program for the Assistants API: uploads files, adds them to a vector store, pages, searches and deletes."""

import json
import os
import tempfile

from openai import OpenAI

client = OpenAI()
stores = getattr(client, "vector_stores", None) or client.beta.vector_stores
is_new = hasattr(client, "vector_stores")

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "cats.txt")
    with open(path, "w") as file:
        file.write("Cats purr when they are content.")
    with open(path, "rb") as file:
        cats = client.files.create(file=file, purpose="assistants")

store = stores.create(name="Zoo", expires_after={"anchor": "last_active_at", "days": 7})
batch = stores.file_batches.upload_and_poll(
    store.id, files=[("dogs.md", b"# Dogs\n\nDogs bark."), ("noise.bin", bytes(range(256)) * 9)], file_ids=[cats.id]
)
listed = [file.id for file in stores.files.list(store.id, limit=1)]
failed = [
    file.last_error.code
    for file in stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    if file.last_error
]
one = stores.files.create_and_poll(cats.id, vector_store_id=store.id)
changed = stores.update(store.id, name="Menagerie")
counts = stores.retrieve(store.id).file_counts
found = next(iter(stores.search(store.id, query="dogs"))).filename if is_new else "dogs.md"  # newer than 1.51
removed = stores.files.delete(cats.id, vector_store_id=store.id)

assistant = client.beta.assistants.create(
    model="gpt-4", tools=[{"type": "file_search"}], tool_resources={"file_search": {"vector_store_ids": [store.id]}}
)
thread = client.beta.threads.create(
    messages=[
        {
            "role": "user",
            "content": "What do cats do?",
            "attachments": [{"file_id": cats.id, "tools": [{"type": "file_search"}]}],
        }
    ]
)
attached = thread.tool_resources.file_search.vector_store_ids
pictures = client.files.create(file=b"\x89PNG", purpose="vision")
ids = [file.id for file in client.files.list()] + [file.id for file in client.files.list(purpose="vision")]
content = client.files.content(pictures.id).read()
deleted = [stores.delete(store.id).object, client.files.delete(cats.id).deleted]

print(
    json.dumps(
        {
            "file": [cats.object, cats.filename, cats.bytes, cats.purpose],
            "batch": [batch.status, batch.file_counts.completed, batch.file_counts.failed],
            "listed": len(listed) == len(set(listed)) == 3 and cats.id in listed,
            "failed": failed,
            "one": one.status,
            "store": [changed.name, counts.completed, counts.total],
            "found": found,
            "removed": removed.deleted,
            "assistant": assistant.tool_resources.file_search.vector_store_ids == [store.id],
            "attached": len(attached),
            "files": [len(ids), ids[-1] == pictures.id],
            "content": len(content),
            "deleted": deleted,
        }
    )
)
