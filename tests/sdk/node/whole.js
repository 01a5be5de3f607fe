// Objects that were read are sent back whole, as JavaScript programs do, where the server ignores unknown fields.
const OpenAI = require(process.env.OPENAI_PACKAGE);

(async () => {
  const { beta } = new OpenAI();
  const assistant = await beta.assistants.create({ model: 'm', name: 'Tutor', tools: [{ type: 'file_search' }] });
  const updated = await beta.assistants.update(assistant.id, assistant);
  const thread = await beta.threads.create({ messages: [{ role: 'user', content: 'Hello' }], metadata: { user: 'u1' } });
  const copy = await beta.threads.create(thread);
  await beta.threads.update(thread.id, copy);
  const run = await beta.threads.createAndRunPoll({
    assistant_id: assistant.id,
    thread: { ...copy, messages: (await beta.threads.messages.list(thread.id)).data },
    stream_options: { include_usage: true },
  });
  const again = await beta.threads.runs.create(thread.id, run);
  console.log(JSON.stringify({ same: updated.name, copy: [copy.id !== thread.id, copy.metadata], runs: [run.status, again.object] }));
})();
