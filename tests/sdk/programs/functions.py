"""A program for the Assistants API: answers two concurrent function calls, by polling and then by streaming."""

import json

from openai import AssistantEventHandler, OpenAI

client = OpenAI()
events = []


def weather(arguments):
    return json.dumps({"city": arguments["city"], "temperature": 68})


def outputs_for(run):
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": weather(json.loads(call.function.arguments))} for call in calls]


class Second(AssistantEventHandler):
    def on_event(self, event):
        events.append(event.event)

    def on_text_done(self, text):
        events.append("text: " + text.value)


class First(AssistantEventHandler):
    def on_event(self, event):
        events.append(event.event)
        if event.event == "thread.run.requires_action":
            outputs = outputs_for(event.data)
            with client.beta.threads.runs.submit_tool_outputs_stream(
                thread_id=event.data.thread_id,
                run_id=event.data.id,
                tool_outputs=outputs,
                event_handler=Second(),
            ) as stream:
                stream.until_done()

    def on_tool_call_created(self, tool_call):
        events.append("call created: " + tool_call.function.name)
        self.collected = ""

    def on_tool_call_delta(self, delta, snapshot):
        self.collected += delta.function.arguments or ""

    def on_tool_call_done(self, tool_call):
        assert self.collected == tool_call.function.arguments
        events.append("call done: " + tool_call.function.arguments)


tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
assistant = client.beta.assistants.create(model="gpt-4", instructions="Use the function.", tools=[tool])
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Paris or Rome?"}])
waiting = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=20)
names = [call.function.name for call in waiting.required_action.submit_tool_outputs.tool_calls]
run = client.beta.threads.runs.submit_tool_outputs_and_poll(
    thread_id=thread.id, run_id=waiting.id, tool_outputs=outputs_for(waiting), poll_interval_ms=20
)
steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc").data
answer = client.beta.threads.messages.list(thread.id, limit=1).data[0].content[0].text.value

client.beta.threads.messages.create(thread.id, role="user", content="And Oslo?")
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id, event_handler=First()) as stream:
    stream.until_done()
last = client.beta.threads.runs.list(thread.id, limit=1).data[0]

print(
    json.dumps(
        {
            "waiting": [waiting.status, names],
            "run": [run.status, run.required_action],
            "steps": [[step.type, step.status] for step in steps],
            "outputs": [json.loads(call.function.output)["city"] for call in steps[0].step_details.tool_calls],
            "answer": answer,
            "events": events,
            "last": last.status,
        }
    )
)
