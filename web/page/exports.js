'use strict';
// Threads and calls as files and programs.

/** Returns a complete thread, for export. */
async function load(id) {
  const path = '/threads/' + id;
  const count = n => n > 100 && announce('exporting', n);
  const [thread, messages, runs] = await Promise.all([
    get(path),
    all(path + '/messages?order=asc', count),
    all(path + '/runs?order=asc'),
  ]);
  return { thread, messages, runs };
}

const quote = text => `'${text.replaceAll("'", `'\\''`)}'`;

/** Without an assistant, the call is one of `/assistant`, as REST needs a stored one. */
function asCurl({ turn, thread_id, ...body }) {
  const key = $('key').value && ` \\\n  -H "Authorization: Bearer $API_KEY"`;
  const [path, sent] = turn.assistant_id
    ? [`/v1/threads/${thread_id}/runs`, { ...body, stream: true }]
    : [
        '/assistant/stream',
        { input: { ...turn, thread_id, assistant_id: undefined, replaces: undefined, file_ids: undefined } },
      ];
  return [
    `curl -sSN ${quote(base + path)}`,
    `-H 'Content-Type: application/json' -H 'OpenAI-Beta: assistants=v2'${key}`,
    `-d ${quote(stringify(sent))}\n`,
  ].join(' \\\n  ');
}

/** Without an assistant, one is created first. */
function asPython({ turn, thread_id, assistant_id, ...body }) {
  const fields = (given, indent, joint) =>
    Object.entries(given)
      .map(([k, v]) => `${indent}${k}=${stringify(v)}`)
      .join(joint);
  const { model = '', instructions, ...rest } = body;
  const made = assistant_id
    ? ''
    : `assistant = client.beta.assistants.create(${fields({ model, instructions }, '', ', ')})\n`;
  return `import os
from openai import OpenAI

client = OpenAI(base_url=${stringify(base + '/v1')}, api_key=os.environ.get("API_KEY", "any"))
${made}with client.beta.threads.runs.stream(
    assistant_id=${assistant_id ? stringify(assistant_id) : 'assistant.id'},
${fields({ thread_id, ...(assistant_id ? body : rest) }, '    ', ',\n')},
) as stream:
    for text in stream.text_deltas:
        print(text, end="", flush=True)
`;
}

function messageAsMarkdown(message) {
  const files = message.attachments.map(file => `[${file.file_id}]`);
  return `## ${t(message.role === 'user' ? 'you' : 'answer')}\n\n${[textOf(message), ...files].join('\n')}\n`;
}

const asMarkdown = ({ thread, messages }) =>
  `# ${thread.metadata.title || t('untitled')}\n\n` + messages.map(messageAsMarkdown).join('\n');
