// A program from before the switch-off, in the words of openai-node 4: runs.retrieve(threadId, runId).
// `node node4.js SCENARIO`; OPENAI_PACKAGE names the installed SDK, OPENAI_BASE_URL is the only other change.
const OpenAI = require(process.env.OPENAI_PACKAGE || 'openai');

const openai = new OpenAI({ maxRetries: 0 });
const { assistants, threads } = openai.beta;
const stores = openai.vectorStores;
const text = (message) => message.content[0].text.value;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const tool = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const outputsFor = (run) =>
  run.required_action.submit_tool_outputs.tool_calls.map((call) => ({
    tool_call_id: call.id,
    output: JSON.stringify({ city: JSON.parse(call.function.arguments).city, temperature: 68 }),
  }));

async function collect(list) {
  const ids = [];
  for await (const item of list) ids.push(item.id);
  return ids;
}

function listen(stream, events) {
  stream
    .on('event', (event) => events.push(event.event))
    .on('messageCreated', () => events.push('message created'))
    .on('textDone', (content) => events.push(`text: ${content.value}`))
    .on('toolCallCreated', (call) => events.push(`call created: ${call.function.name}`))
    .on('toolCallDone', (call) => events.push(`call done: ${call.function.arguments}`));
  return stream;
}

const scenarios = {
  async objects() {
    const made = await assistants.create({ model: 'gpt-4', name: 'Tutor', metadata: { team: 'a' } });
    const changed = await assistants.update(made.id, { name: 'Teacher' });
    const read = await assistants.retrieve(made.id);
    const thread = await threads.create({ messages: [{ role: 'user', content: 'Hello' }] });
    const sent = [];
    for (let n = 0; n < 12; n += 1) {
      sent.push((await threads.messages.create(thread.id, { role: 'user', content: `Message ${n}` })).id);
    }
    const paged = await collect(threads.messages.list(thread.id, { limit: 5, order: 'asc' }));
    const noted = await threads.messages.update(thread.id, sent[0], { metadata: { seen: 'yes' } });
    const moved = await threads.update(thread.id, { metadata: { user: 'u1' } });
    const gone = await threads.del(thread.id);
    const dismissed = await assistants.del(made.id);
    return {
      names: [made.name, changed.name, read.name],
      paged: paged.length === 13 && JSON.stringify(paged.slice(1)) === JSON.stringify(sent),
      metadata: [noted.metadata, moved.metadata],
      deleted: [gone.deleted, dismissed.deleted],
    };
  },

  async polling() {
    const assistant = await assistants.create({ model: 'gpt-4', tools: [tool] });
    const thread = await threads.create({ messages: [{ role: 'user', content: 'Paris or Rome?' }] });
    const waiting = await threads.runs.createAndPoll(
      thread.id,
      { assistant_id: assistant.id },
      { pollIntervalMs: 20 },
    );
    const names = waiting.required_action.submit_tool_outputs.tool_calls.map((call) => call.function.name);
    const run = await threads.runs.submitToolOutputsAndPoll(
      thread.id,
      waiting.id,
      { tool_outputs: outputsFor(waiting) },
      { pollIntervalMs: 20 },
    );
    const read = await threads.runs.retrieve(thread.id, run.id);
    const steps = (await threads.runs.steps.list(thread.id, run.id, { order: 'asc' })).data;
    const step = await threads.runs.steps.retrieve(thread.id, run.id, steps[0].id);
    return {
      waiting: [waiting.status, names],
      run: [run.status, read.required_action],
      steps: steps.map((one) => [one.type, one.status]),
      outputs: step.step_details.tool_calls.map((call) => JSON.parse(call.function.output).city),
      answer: text((await threads.messages.list(thread.id)).data[0]),
    };
  },

  async streaming() {
    const assistant = await assistants.create({ model: 'gpt-4' });
    const thread = await threads.create({ messages: [{ role: 'user', content: 'Tell me of Umeå ☃.' }] });
    const events = [];
    let written = '';
    const stream = listen(threads.runs.stream(thread.id, { assistant_id: assistant.id }), events);
    stream.on('textDelta', (delta) => {
      written += delta.value || '';
    });
    const run = await stream.finalRun();
    const messages = await stream.finalMessages();
    const steps = await stream.finalRunSteps();
    const fresh = [];
    const both = await listen(
      threads.createAndRunStream({
        assistant_id: assistant.id,
        thread: { messages: [{ role: 'user', content: 'Once more.' }] },
      }),
      fresh,
    ).finalRun();
    return {
      events,
      written,
      run: run.status,
      final: messages.map(text),
      steps: steps.map((step) => [step.type, step.status]),
      fresh: [fresh[0], both.status],
    };
  },

  async functions() {
    const assistant = await assistants.create({ model: 'gpt-4', tools: [tool] });
    const thread = await threads.create({ messages: [{ role: 'user', content: 'Paris or Rome?' }] });
    const events = [];
    const waiting = await listen(threads.runs.stream(thread.id, { assistant_id: assistant.id }), events).finalRun();
    events.push('--');
    const run = await listen(
      threads.runs.submitToolOutputsStream(thread.id, waiting.id, { tool_outputs: outputsFor(waiting) }),
      events,
    ).finalRun();
    return { events, waiting: waiting.status, run: run.status };
  },

  async cancelling() {
    const assistant = await assistants.create({ model: 'gpt-4' });
    const thread = await threads.create({ messages: [{ role: 'user', content: 'Count to a million.' }] });
    let run = await threads.runs.create(thread.id, { assistant_id: assistant.id });
    while (run.status === 'queued') {
      await sleep(20);
      run = await threads.runs.retrieve(thread.id, run.id);
    }
    run = await threads.runs.cancel(thread.id, run.id);
    while (['queued', 'in_progress', 'cancelling'].includes(run.status)) {
      await sleep(20);
      run = await threads.runs.retrieve(thread.id, run.id);
    }
    const again = await threads.runs.cancel(thread.id, run.id).catch((error) => error);
    return { status: run.status, again: [again.constructor.name, again.status, again.error.message] };
  },

  async files() {
    const cats = await openai.files.create({
      file: await OpenAI.toFile(Buffer.from('Cats purr.'), 'cats.txt'),
      purpose: 'assistants',
    });
    const store = await stores.create({ name: 'Zoo' });
    const dogs = await OpenAI.toFile(Buffer.from('Dogs bark.'), 'dogs.txt');
    const noise = await OpenAI.toFile(Buffer.from([0, 1, 2, 3, 255]), 'noise.bin');
    const batch = await stores.fileBatches.uploadAndPoll(store.id, { files: [dogs, noise], fileIds: [cats.id] });
    const listed = await collect(stores.files.list(store.id, { limit: 1 }));
    const found = [];
    for await (const hit of stores.search(store.id, { query: 'dogs' })) found.push(hit.filename); // best first
    const thread = await threads.create({
      messages: [
        { role: 'user', content: 'Hi', attachments: [{ file_id: cats.id, tools: [{ type: 'file_search' }] }] },
      ],
    });
    const gone = await stores.del(store.id);
    const dismissed = await openai.files.del(cats.id);
    return {
      file: [cats.object, cats.filename, cats.bytes],
      batch: [batch.status, batch.file_counts.completed, batch.file_counts.failed],
      listed: new Set(listed).size,
      found: found[0],
      attached: thread.tool_resources.file_search.vector_store_ids.length,
      deleted: [gone.deleted, dismissed.deleted],
    };
  },

  async problems() {
    const errors = [];
    for (const attempt of [
      () => assistants.retrieve('asst_nobody'),
      () => threads.retrieve('thread_nowhere'),
      () => assistants.create({ model: 'gpt-4', colour: 'red' }),
      () => assistants.list({ limit: 101 }),
    ]) {
      const error = await attempt().then(() => null, (problem) => problem);
      errors.push(error && [error.constructor.name, error.status, error.param]);
    }
    return { errors };
  },
};

scenarios[process.argv[2]]().then((seen) => console.log(JSON.stringify(seen)));
