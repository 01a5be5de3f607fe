// LangChain.js 0.3's RemoteRunnable with both LangServe routes. THREADHOLD_URL is the address, and OPENAI_API_KEY the key.
const { RemoteRunnable } = require('@langchain/core/runnables/remote');

const at = (path) =>
  new RemoteRunnable({
    url: process.env.THREADHOLD_URL + path,
    options: { headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` } },
  });

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

async function main() {
  const chat = at('/chat');
  const asked = { system: 'Be brief.', human: 'hello' };
  const result = { chat: await chat.invoke(asked), batch: await chat.batch([asked, asked]) };
  result.streamed = (await all(chat.stream(asked))).join('');
  const assistant = at('/assistant');
  const done = await assistant.invoke({ content: 'hi' });
  result.assistant = done.value; // LangChain.js turns every object with a key `text` into a prompt value
  const chunks = await all(assistant.stream({ content: 'more' }));
  result.events = [chunks[0].event, chunks.at(-1).event];
  result.text = chunks
    .filter((chunk) => chunk.event === 'thread.message.delta')
    .map((chunk) => chunk.data.delta.content[0].value.value)
    .join('');
  console.log(JSON.stringify(result));
}

main();
