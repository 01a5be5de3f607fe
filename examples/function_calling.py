"""Function calling with OpenAI's SDK: `THREADHOLD_URL=http://127.0.0.1:3000 python examples/function_calling.py`."""

import json
import os

from openai import OpenAI


def get_weather(city: str) -> str:
    return json.dumps({"city": city, "sky": "clear", "celsius": 21})


WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
client = OpenAI(base_url=os.environ.get("THREADHOLD_URL", "http://127.0.0.1:3000") + "/v1", api_key="any")
assistant = client.beta.assistants.create(model="", tools=[{"type": "function", "function": WEATHER}])
thread = client.beta.threads.create(messages=[{"role": "user", "content": "How is the weather in Paris?"}])
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
while run.status == "requires_action":
    calls = run.required_action.submit_tool_outputs.tool_calls
    outputs = [
        {"tool_call_id": call.id, "output": get_weather(**json.loads(call.function.arguments))} for call in calls
    ]
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs
    )
for message in client.beta.threads.messages.list(thread.id, run_id=run.id):
    print(message.content[0].text.value)
