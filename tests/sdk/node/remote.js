// LangChain.js 0.3's RemoteRunnable against both LangServe routes. THREADHOLD_URL says where, the key is OPENAI_API_KEY.
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
  const told = { chat: await chat.invoke(asked), batch: await chat.batch([asked, asked]) };
  told.streamed = (await all(chat.stream(asked))).join('');
  const assistant = at('/assistant');
  const done = await assistant.invoke({ content: 'hi' });
  told.assistant = done.value; // LangChain.js makes a prompt value of whatever has a key `text`
  const chunks = await all(assistant.stream({ content: 'more' }));
  told.events = [chunks[0].event, chunks.at(-1).event];
  told.text = chunks
    .filter((chunk) => chunk.event === 'thread.message.delta')
    .map((chunk) => chunk.data.delta.content[0].value.value)
    .join('');
  console.log(JSON.stringify(told));
}

main();
