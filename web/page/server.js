'use strict';
// Requests to the server, and the events of runs.

let base = disk ? kept.server || 'http://127.0.0.1:3000' : location.origin;

function setBase(address) {
  base = address.replace(/\/+(v1\/*)?$/, '');
  keep({ server: base });
}

const PLAIN = { cache: 'no-store', credentials: 'omit' };
const failure = ({ message, code, type, status }, request) =>
  Object.assign(Error(message), { code: code ?? type, status, request });

async function call(method, path, body, signal) {
  const isForm = body instanceof FormData;
  const headers = { 'X-Threadhold-Extensions': 'true', ...(isForm ? {} : { 'Content-Type': 'application/json' }) };
  const key = $('key').value;
  if (key) headers.Authorization = 'Bearer ' + key;
  let answer;
  try {
    answer = await fetch(base + path, {
      method,
      headers,
      body: isForm ? body : body && stringify(body),
      signal,
      ...PLAIN,
    });
  } catch (error) {
    throw signal?.aborted ? error : failure({ message: `${t('unreachable')}: ${base}`, code: 'network' });
  }
  if (answer.ok) return answer;
  const result = await answer.json().catch(() => null);
  throw failure(
    { message: `HTTP ${answer.status}`, ...result?.error, status: answer.status },
    answer.headers.get('x-request-id'),
  );
}

const get = async path => (await call('GET', path)).json();
const post = async (path, body = {}) => (await call('POST', path, body)).json();

/** Returns all rows of a list, page by page; `progress` gets the number so far. */
async function all(path, progress = () => {}) {
  const rows = [];
  for (let after = '', more = true; more;) {
    const page = await get(`${path}&limit=100${after}`);
    rows.push(...page.data);
    more = page.has_more;
    after = '&after=' + page.last_id;
    progress(rows.length);
  }
  return rows;
}

async function* bytes(body) {
  const reader = body.getReader();
  try {
    for (let block; !(block = await reader.read()).done;) yield block.value;
  } catch {
    // the connection broke, and so does the loop below
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Starts, resumes or follows a run; yields {event, data, id}. Leaving stops nothing. */
async function* follow(input, { view, abort }) {
  const answer = await call(
    'POST',
    '/assistant/stream',
    { input: { on_disconnect: 'continue', ...input } },
    abort.signal,
  );
  const request = (view.request = answer.headers.get('x-request-id'));
  for await (const { event, data } of readEvents(bytes(answer.body))) {
    if (event === 'end') return;
    const parsed = data && parse(data);
    if (event === 'error') throw failure({ ...parsed, status: parsed.status_code }, request);
    if (event === 'data' && parsed.event === 'error') throw failure(parsed.data.error, request);
    if (event === 'data') yield parsed;
  }
  throw failure({ message: t('closed'), code: 'network' });
}
