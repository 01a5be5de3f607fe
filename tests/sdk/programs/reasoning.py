"""A program for the Assistants API with a reasoning model: it shows the answer, in three ways."""

import asyncio
import json

from openai import AsyncOpenAI, OpenAI

client = OpenAI()
assistant = client.beta.assistants.create(model="gpt-4")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "6 x 7?"}])
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
    shown = "".join(stream.text_deltas)
    run = stream.get_final_run()
    final = stream.get_final_messages()[0].content[0].text.value

raw = ""
for event in client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id, stream=True):
    if event.data.object == "thread.message.delta":
        raw += event.data.delta.content[0].text.value


async def later():
    text = ""
    runs = AsyncOpenAI().beta.threads.runs
    async with runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        async for event in stream:
            if event.event != "thread.message.delta":
                assert event.data.object
            else:
                text += event.data.delta.content[0].text.value
    return text


print(json.dumps({"shown": shown, "final": final, "raw": raw, "later": asyncio.run(later()), "run": run.status}))
