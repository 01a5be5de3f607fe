'use strict';
// Earlier messages and runs of a thread, page by page.

/** Reads a thread backwards: each page has the next older messages and the runs of their time, oldest first. */
class History {
  known = new Map();
  shown = new Set();
  runs = [];
  more = true;
  cursor = '';
  runCursor = '';
  moreRuns = true;
  constructor(id) {
    this.path = '/threads/' + id;
  }
  async older() {
    const page = await get(`${this.path}/messages?order=desc&limit=100${this.cursor}`);
    let messages = page.data.reverse();
    this.more = page.has_more;
    const first = messages.findIndex(m => m.role === 'user');
    if (this.more && first > 0) messages = messages.slice(first); // a run's messages stay on one page
    this.cursor = '&after=' + messages[0]?.id;
    const since = this.more ? messages[0].created_at : -Infinity;
    while (this.moreRuns && !(this.runs.at(-1)?.created_at < since)) await this.fetchRuns();
    const younger = this.runs.filter(run => run.created_at >= since);
    this.runs = this.runs.slice(younger.length);
    return { messages, runs: younger.reverse() };
  }
  async fetchRuns() {
    const page = await get(`${this.path}/runs?order=desc&limit=100${this.runCursor}`);
    for (const run of page.data) {
      this.runs.push(run);
      this.known.set(run.id, run);
    }
    this.moreRuns = page.has_more;
    this.runCursor = '&after=' + page.last_id;
  }
}

/** A button above the oldest message that is shown; the scroll position is kept. */
function olderButton(history, mine) {
  let reading = false; // not `disabled`, which would take the focus away
  const read = shield(async () => {
    if (reading) return;
    reading = true;
    try {
      const nodes = await past(history, await history.older());
      if (mine !== opening) return;
      const next = node.nextElementSibling;
      const before = next.getBoundingClientRect().top;
      node.after(...nodes);
      if (!history.more) {
        watcher.disconnect();
        if (document.activeElement === node) $('log').focus({ preventScroll: true });
        node.remove();
      }
      if (nodes.some(one => one.querySelector('[data-file]'))) watch();
      const moved = next.getBoundingClientRect().top - before;
      $('log').scrollTop += moved;
    } finally {
      reading = false;
    }
  });
  const node = button('older', read, 'older');
  const watcher = new IntersectionObserver(seen => {
    if (seen.some(one => one.isIntersecting) && !atEnd) read();
  });
  watcher.observe(node);
  return node;
}

/** The nodes of a page of history, oldest first; the run `active` is followed elsewhere. */
async function past(history, { messages, runs }, active) {
  const nodes = [];
  const views = new Map();
  // A message's run can be on another page of runs: their times are whole seconds, and it can be too long for one page.
  const needed = new Set(
    [...runs, ...messages.flatMap(m => history.known.get(m.run_id) ?? [])].filter(run => !history.shown.has(run.id)),
  );
  const steps = new Map(
    await Promise.all(
      [...needed].map(async run => [
        run.id,
        (run.tools.length || run.last_error) && run !== active
          ? await all(`${history.path}/runs/${run.id}/steps?order=asc`)
          : [],
      ]),
    ),
  );
  const add = (run, id = run.id) => {
    if (views.has(id)) return views.get(id);
    const view = new RunView(run);
    views.set(id, view);
    nodes.push(view.node);
    history.shown.add(id);
    for (const s of steps.get(id) ?? [])
      if (s.type === 'tool_calls') view.step(s);
      else view.message(s.step_details.message_creation.message_id);
    return view;
  };
  // A run is shown at its first message; a run without messages before the first newer message.
  const left = runs.filter(
    run =>
      needed.has(run) &&
      (run.last_error || steps.get(run.id).length) &&
      steps.get(run.id).every(s => s.type === 'tool_calls'),
  );
  for (const m of messages) {
    while (left.length && m.role === 'user' && left[0].created_at < m.created_at) add(left.shift());
    if (m.role === 'user') {
      const pictures = m.content.flatMap(part => part.image_file?.file_id ?? []);
      const text = textOf({ content: m.content.filter(part => !part.image_file) });
      nodes.push(
        userMessage(text, {
          id: m.id,
          files: [...pictures, ...m.attachments.map(file => file.file_id)],
          isPlain: m.content.every(part => part.text),
          at: m.created_at,
        }),
      );
    } else if (m.run_id !== active?.id) {
      const run = history.known.get(m.run_id);
      add(run, run?.id ?? m.id).whole(m);
    }
  }
  left.forEach(run => add(run));
  for (const view of views.values()) if (view.run) view.end(view.run);
  return nodes;
}
