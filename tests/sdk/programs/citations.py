"""A program for the Assistants API: asks about a file, and prints footnotes, streamed and afterwards."""

import json

from openai import AssistantEventHandler, OpenAI

client = OpenAI()
stores = getattr(client, "vector_stores", None) or client.beta.vector_stores
INCLUDE = "step_details.tool_calls[*].file_search.results[*].content"


class Screen(AssistantEventHandler):
    def __init__(self):
        super().__init__()
        self.calls = []
        self.streamed = []

    def on_tool_call_created(self, tool_call):
        self.calls.append(tool_call.type)

    def on_text_delta(self, delta, snapshot):
        self.streamed += delta.annotations or []


store = stores.create(name="Timetables")
batch = stores.file_batches.upload_and_poll(
    store.id,
    files=[("ferry.txt", b"The ferry to Naxos leaves at seven."), ("tea.txt", b"Green tea is steeped briefly.")],
)
assistant = client.beta.assistants.create(
    model="gpt-4", tools=[{"type": "file_search"}], tool_resources={"file_search": {"vector_store_ids": [store.id]}}
)
thread = client.beta.threads.create(messages=[{"role": "user", "content": "When does the ferry leave?"}])
screen = Screen()
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id, event_handler=screen) as stream:
    stream.until_done()

run = next(iter(client.beta.threads.runs.list(thread.id)))
message = next(iter(client.beta.threads.messages.list(thread.id)))
text = message.content[0].text
footnotes = []
for annotation in text.annotations:
    assert text.value[annotation.start_index : annotation.end_index] == annotation.text
    footnotes.append(client.files.retrieve(annotation.file_citation.file_id).filename)
first = next(iter(client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc")))
step = client.beta.threads.runs.steps.retrieve(first.id, run_id=run.id, thread_id=thread.id, include=[INCLUDE])
results = step.step_details.tool_calls[0].file_search.results

print(
    json.dumps(
        {
            "indexed": batch.file_counts.completed,
            "calls": screen.calls,
            "streamed": [[each.index, each.text] for each in screen.streamed],
            "text": text.value,
            "footnotes": footnotes,
            "best": [results[0].file_name, results[0].content[0].text],
            "plain": first.step_details.tool_calls[0].file_search.results[0].content,
        }
    )
)
