"""A program for the API's first version: asks about its files, and reads the `retrieval` calls and the citations."""

import json

from openai import AssistantEventHandler, OpenAI

client = OpenAI()


class Screen(AssistantEventHandler):
    def __init__(self):
        super().__init__()
        self.calls = []
        self.citations = []

    def on_tool_call_created(self, tool_call):
        self.calls.append(tool_call.type)

    def on_text_delta(self, delta, snapshot):
        self.citations += [annotation.file_citation.quote for annotation in delta.annotations or []]


file = client.files.create(file=("ferry.txt", b"The ferry to Naxos leaves at seven."), purpose="assistants")
assistant = client.beta.assistants.create(model="gpt-4", tools=[{"type": "retrieval"}], file_ids=[file.id])
thread = client.beta.threads.create(messages=[{"role": "user", "content": "When does the ferry leave?"}])
screen = Screen()
with client.beta.threads.runs.create_and_stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=screen
) as stream:
    stream.until_done()

run = next(iter(client.beta.threads.runs.list(thread.id)))
step = next(iter(client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc")))
read = client.beta.threads.runs.steps.retrieve(step.id, run_id=run.id, thread_id=thread.id)
citation = client.beta.threads.messages.list(thread.id).data[0].content[0].text.annotations[0]

print(
    json.dumps(
        {
            "tools": [[tool.type for tool in one.tools] for one in (assistant, run)],
            "files": [one.file_ids == [file.id] for one in (assistant, run, stream.current_run)],
            "calls": [screen.calls, step.step_details.tool_calls[0].type, read.step_details.tool_calls[0].type],
            "cited": [screen.citations, citation.file_citation.quote, citation.file_citation.file_id == file.id],
        }
    )
)
