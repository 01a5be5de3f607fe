"""A program written for Azure OpenAI; only its endpoint differs."""

import json
import os

from openai import AuthenticationError, AzureOpenAI

endpoint = os.environ.pop("OPENAI_BASE_URL").removesuffix("/v1")
key = os.environ.pop("OPENAI_API_KEY")
version = "2024-05-01-preview"

client = AzureOpenAI(azure_endpoint=endpoint, api_key=key, api_version=version)
assistant = client.beta.assistants.create(
    model="gpt-4o", instructions="Be short.", tools=[{"type": "code_interpreter"}]
)
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
newest = client.beta.threads.messages.list(thread.id).data[0]

streamed = ""
client.beta.threads.messages.create(thread.id, role="user", content="More")
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
    for text in stream.text_deltas:
        streamed += text

question = [{"role": "user", "content": "Hi"}]
plain = client.chat.completions.create(model="my-gpt-4o", messages=question)

# The client's deployment is the model of every completion, and not stored with objects.
deployed = AzureOpenAI(
    azure_endpoint=f"{endpoint}/", azure_deployment="my-deployment", azure_ad_token=key, api_version=version
)
chunks = deployed.chat.completions.create(model="ignored", messages=question, stream=True)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
same = deployed.beta.threads.retrieve(thread.id).id == thread.id
made = deployed.beta.threads.create().object

file = client.files.create(file=("cats.txt", b"Cats purr."), purpose="assistants")

try:
    AzureOpenAI(azure_endpoint=endpoint, api_key="wrong", api_version=version).beta.threads.create()
except AuthenticationError as error:
    refused = [error.status_code, error.code]

print(
    json.dumps(
        {
            "run": [run.status, newest.content[0].text.value],
            "streamed": streamed,
            "completions": [plain.choices[0].message.content, plain.model, text],
            "stored": [same, made, file.filename],
            "refused": refused,
            "deleted": [
                client.beta.threads.delete(thread.id).deleted,
                client.beta.assistants.delete(assistant.id).deleted,
            ],
        }
    )
)
