'use strict';
// The list of threads, and the open one.

let opening = 0;
let opened;
const titled = (node, th) =>
  th?.metadata.title ? put(node, th.metadata.title) : say(node, th ? 'untitled' : 'newThread');

function heading() {
  titled($('title'), thread);
  for (const id of ['actionsButton', 'rename', 'remove', 'json', 'markdown']) $(id).hidden = !thread;
  $('curl').hidden = $('python').hidden = !lastCall;
  document.title = [thread?.metadata.title, 'Threadhold'].filter(Boolean).join(' · ');
  for (const a of every('#threads a')) a.ariaCurrent = a.hash === '#' + thread?.id ? 'page' : null;
}

async function listThreads() {
  $('threads').replaceChildren(...(await threadPage('').catch(() => [])));
  heading();
}

/** A page of the list, with a button for the next page if there is one. */
async function threadPage(after) {
  const { data, has_more, last_id } = await get(`/threads?order=desc&limit=100${after}`);
  const items = data.map(th => el('li', titled(el('a', { href: '#' + th.id }), th)));
  if (has_more) {
    const next = el(
      'li',
      button(
        'moreThreads',
        shield(async () => {
          next.replaceWith(...(await threadPage('&after=' + last_id)));
          heading();
        }),
      ),
    );
    items.push(next);
  }
  return items;
}

function hello() {
  const examples = texts.presets.map((preset, i) =>
    el('button.example', { type: 'button', onclick: () => choose(i) }, el('b', preset.name), el('span', preset.human)),
  );
  $('log').replaceChildren(
    el(
      'div.hello',
      el('h2', { t: 'helloTitle' }),
      el('p', { t: 'hello' }),
      el('p.dim', { id: 'helloModel' }),
      ...examples,
    ),
  );
  nameModel();
}

/** Shows the thread in the address; an active run is followed from its first event. */
const open = () => (opened = showThread());
const showThread = shield(async () => {
  const id = location.hash.slice(1);
  const mine = ++opening;
  live?.abort.abort();
  waiting?.form.pause();
  setLive(null);
  unedit();
  drawer('nav', false);
  thread = waiting = null;
  heading();
  if (!id.startsWith('thread_')) return hello();
  $('log').replaceChildren();
  const path = '/threads/' + id;
  const history = new History(id);
  const [found, newest] = await Promise.all([get(path), history.older()]);
  if (mine !== opening) return;
  thread = found;
  heading();
  const active = [...history.known.values()].find(run => !CLOSED.includes(run.status));
  const nodes = await past(history, newest, active);
  if (mine !== opening) return;
  $('log').append(...nodes);
  if (history.more) $('log').prepend(olderButton(history, mine));
  if (every('[data-file]').length) watch();
  stick(true);
  if (active) {
    const view = nodes.find(node => node.view?.run?.id === active.id)?.view ?? new RunView(active);
    $('log').append(view.node);
    drive(view, { run_id: active.id });
  }
});

async function rename() {
  const title = prompt(t('renameAsk'), thread.metadata.title ?? '');
  if (title === null) return;
  thread = await post('/threads/' + thread.id, { metadata: { ...thread.metadata, title: title.slice(0, 512) } });
  listThreads();
}

async function remove() {
  if (!confirm(t('removeAsk'))) return;
  await call('DELETE', '/threads/' + thread.id);
  leave();
  listThreads();
}

function leave() {
  history.pushState(null, '', location.pathname + location.search);
  open();
}
