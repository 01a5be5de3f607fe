// A program that ran against Azure OpenAI: only the endpoint is another.
const { AzureOpenAI } = require(process.env.OPENAI_PACKAGE);

(async () => {
  const [endpoint, apiKey, apiVersion] = [process.env.AZURE_ENDPOINT, process.env.OPENAI_API_KEY, '2024-05-01-preview'];
  const client = new AzureOpenAI({ endpoint, apiKey, apiVersion });
  const assistant = await client.beta.assistants.create({ model: 'gpt-4o' });
  const messages = [{ role: 'user', content: 'Hello' }];
  const run = await client.beta.threads.createAndRunPoll({ assistant_id: assistant.id, thread: { messages } });
  const listed = await client.beta.threads.messages.list(run.thread_id);
  const plain = await client.chat.completions.create({ model: 'my-gpt-4o', messages });
  const deployed = new AzureOpenAI({ endpoint, azureADTokenProvider: async () => apiKey, apiVersion, deployment: 'mine' });
  const chunks = await deployed.chat.completions.create({ model: 'ignored', messages, stream: true });
  let text = '';
  for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? '';
  const made = await deployed.beta.threads.create();
  const wrong = new AzureOpenAI({ endpoint, apiKey: 'wrong', apiVersion, maxRetries: 0 });
  const refused = await wrong.beta.threads.create().catch((error) => [error.status, error.code]);
  console.log(JSON.stringify({
    run: [run.status, listed.data[0].content[0].text.value],
    completions: [plain.choices[0].message.content, plain.model, text],
    stored: made.object,
    refused,
  }));
})();
