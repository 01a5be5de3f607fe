'use strict';
// The open conversation: starting, following and stopping runs.

let thread;
let live;
let waiting;
let edited;
let atEnd = true;
let lastCall;

/** Pixels of the conversation below the visible part. */
const gap = () => $('log').scrollHeight - $('log').clientHeight - $('log').scrollTop;

function stick(force) {
  atEnd ||= force;
  if (atEnd) {
    $('log').scrollTop = 1e9;
  }
  $('down').hidden = atEnd;
}

const onScroll = () => {
  $('down').hidden = atEnd = gap() < 80;
};

function setLive(next) {
  live = next;
  $('log').ariaBusy = !!live;
  $('send').className = live ? 'stop' : 'main';
  say($('send'), live ? 'stop' : 'send');
}

/** Follows a run to its end or pause; a lost connection is resumed where it broke. */
async function drive(view, input) {
  const me = { abort: new AbortController(), view };
  live?.abort.abort();
  setLive(me);
  view.busy(true);
  stick(true);
  announce('thinking');
  if (!input.run_id || input.tool_outputs) {
    view.begun = now();
    view.first = view.piece = view.speed = 0;
  }
  try {
    for (let tries = 0, done = false; !done;) {
      try {
        for await (const event of follow(input, me)) {
          tries = 0;
          if (view.input) begun(view, event);
          view.apply(event);
          if (me.isStopping && view.run) {
            me.isStopping = false;
            cancel(me);
          }
          if (!event.event.endsWith('.delta')) stick(); // deltas are drawn once a frame
        }
        done = true;
      } catch (error) {
        if (me.abort.signal.aborted || error.code !== 'network' || !view.run || tries++ > 5) throw error;
        announce('lost');
        await new Promise(later => setTimeout(later, 300 * 2 ** tries));
        input = { run_id: view.run.id, after: view.last };
      }
    }
    if (CLOSED.includes(view.run?.status))
      announce(
        ...(view.run.status === 'cancelled' ? ['stopped'] : ['done', view.text().split(/\s+/).filter(Boolean).length]),
      );
  } catch (error) {
    if (me.abort.signal.aborted) return;
    if (view.run) view.show(problem(error));
    else refused(view, error);
    waiting?.check();
  } finally {
    view.busy(false);
    if (live === me) {
      setLive(null);
      stick();
      if (waiting) waiting.form.node.hidden = false;
    }
  }
}

/** Called when a new thread or run exists. */
function begun(view, { event, data }) {
  if (event === 'thread.created') {
    thread = data;
    history.pushState(null, '', '#' + data.id);
    const title = (view.input.content || t('untitled')).trim().replace(/\s+/g, ' ').slice(0, 60);
    post('/threads/' + data.id, { metadata: { title } }).then(titled => {
      if (thread?.id === titled.id) thread = titled;
      listThreads();
    }, listThreads);
    heading();
  }
  if (event !== 'thread.run.created') return;
  for (let node; (node = view.old) && node !== (view.question ?? view.node); node.remove())
    view.old = node.nextElementSibling;
  const { content: text, image_ids = [], temperature, max_completion_tokens } = view.input;
  const content = image_ids.length
    ? [
        ...(text && [{ type: 'text', text }]),
        ...image_ids.map(file_id => ({ type: 'image_file', image_file: { file_id } })),
      ]
    : text;
  const { thread_id, assistant_id, model, instructions } = data;
  lastCall = {
    turn: view.input,
    thread_id,
    ...(view.input.assistant_id && { assistant_id }),
    ...(model && { model }),
    instructions,
    ...(temperature !== 1 && { temperature }),
    ...(max_completion_tokens > 0 && { max_completion_tokens }),
    ...(content && { additional_messages: [{ role: 'user', content }] }),
  };
  heading();
  if (view.input.file_ids.length) watch();
  if (view.question)
    get(`/threads/${thread_id}/messages?limit=10`).then(
      page => {
        view.question.dataset.id = page.data.find(m => m.role === 'user').id;
      },
      () => {},
    );
}

async function cancel({ view, abort }) {
  await call('POST', view.path + '/cancel').catch(error => {
    if (error.status !== 400) view.show(problem(error));
  });
  setTimeout(() => abort?.abort(), 3000); // its last events are awaited, but not for ever
}

function stop() {
  if (live) {
    if (live.view.run) cancel(live);
    else live.isStopping = true;
  } else if (waiting) cancel({ view: waiting }).then(() => waiting?.check());
}

const send = shield(async () => {
  if (live) return stop();
  for (let last; last !== opened;) await (last = opened); // a thread that is being read is the one that is meant
  const content = $('human').value;
  const chips = [...$('chips').children];
  const of = is => chips.filter(node => 'picture' in node.dataset === is).map(node => node.dataset.file);
  const file_ids = of(false);
  const image_ids = of(true);
  if (
    (!content.trim() && !image_ids.length) ||
    ![...file_ids, ...image_ids].every(Boolean) ||
    edited?.dataset.id === '' ||
    warnBlind() ||
    !isFree()
  )
    return;
  keep({ used: true });
  start({ content, file_ids, image_ids, replaces: edited?.dataset.id ?? '' }, edited, chips);
  $('human').value = $('preset').value = '';
  $('chips').replaceChildren();
  warnBlind();
  unedit();
});

/**
 * Starts a run. `old` and everything below it are removed when the run exists, as on the server the message `replaces`
 * and later ones.
 */
function start(turn, old, chips) {
  const view = Object.assign(new RunView(), { old, chips });
  const of = (id, none = '') => $(id).value.trim() || none;
  if (turn.content || turn.image_ids?.length)
    view.question = userMessage(turn.content, {
      files: [...turn.image_ids, ...turn.file_ids],
      isPlain: !turn.image_ids.length,
      at: Date.now() / 1000,
    });
  view.input = {
    ...turn,
    thread_id: thread?.id ?? '',
    assistant_id: of('assistant'),
    instructions: of('system'),
    model: of('model'),
    temperature: +of('temperature', 1),
    max_completion_tokens: +of('tokens', -1),
  };
  if (!thread) $('log').replaceChildren();
  $('log').append(view.question ?? '', view.node);
  return drive(view, view.input);
}

/** No run was created: the text and files are put back. */
function refused(view, error) {
  view.question?.remove();
  view.node.replaceWith(problem(error));
  if (!view.question) return;
  $('human').value = (view.input.content + '\n' + $('human').value).trim();
  $('chips').prepend(...view.chips);
  warnBlind();
  edit(view.old);
}

/** Answers the newest question again, without changing it. */
async function again() {
  const { id } = thread;
  let at = -1;
  let replaces = '';
  for (let more = true, after = ''; more && at < 0; after = '&after=' + replaces) {
    const { data, has_more } = await get(`/threads/${id}/messages?limit=100${after}`);
    at = data.findIndex(m => m.role === 'user');
    more = has_more;
    replaces = data[at < 0 ? data.length - 1 : at - 1]?.id ?? replaces;
  }
  if (at < 0) replaces = ''; // nobody asked
  if (id === thread?.id && isFree())
    await start(
      { content: '', file_ids: [], replaces },
      every('.me:not(:has(~.me))+*')[0] ?? (replaces && every('#log .it')[0]),
    );
}

/** Returns whether a run can start; focuses a waiting one. */
function isFree() {
  waiting?.form.focus();
  waiting?.form.node.scrollIntoView({ block: 'nearest' });
  return !live && !waiting;
}

function edit(message) {
  edited = message;
  $('editing').hidden = !message;
}

const unedit = () => edit(null);
