"""A program for the Assistants API: shows the answer as it arrives, through the SDK's event handler."""

import json

from openai import AssistantEventHandler, OpenAI

client = OpenAI()


class Screen(AssistantEventHandler):
    def __init__(self):
        super().__init__()
        self.seen = []
        self.events = []
        self.text = ""

    def on_event(self, event):
        self.events.append(event.event)

    def on_message_created(self, message):
        self.seen.append("message created")

    def on_text_created(self, text):
        self.seen.append("text created")

    def on_text_delta(self, delta, snapshot):
        self.text += delta.value or ""
        assert [annotation for annotation in snapshot.annotations if annotation.text] == []
        assert snapshot.value == self.text

    def on_text_done(self, text):
        self.seen.append("text done: " + text.value)

    def on_message_done(self, message):
        self.seen.append("message done: " + message.status)

    def on_run_step_created(self, run_step):
        self.seen.append("step created: " + run_step.type)

    def on_run_step_done(self, run_step):
        self.seen.append("step done: " + run_step.status)

    def on_end(self):
        self.seen.append("end")


assistant = client.beta.assistants.create(model="gpt-4", instructions="Be short.")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Tell me of Umeå ☃."}])
screen = Screen()
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id, event_handler=screen) as stream:
    stream.until_done()
    run = stream.get_final_run()
    messages = stream.get_final_messages()
    steps = stream.get_final_run_steps()

fresh = Screen()
with client.beta.threads.create_and_run_stream(
    assistant_id=assistant.id,
    thread={"messages": [{"role": "user", "content": "Once more."}]},
    event_handler=fresh,
) as stream:
    pieces = list(stream.text_deltas)

raw = [
    event.event
    for event in client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Raw."}]}, stream=True
    )
]

print(
    json.dumps(
        {
            "events": screen.events,
            "seen": screen.seen,
            "text": screen.text,
            "run": [run.status, run.usage is not None],
            "final": [message.content[0].text.value for message in messages],
            "steps": [step.type for step in steps],
            "fresh": ["".join(pieces), fresh.events[0], fresh.current_run.status],
            "raw": [raw[0], raw[-1]],
        }
    )
)
