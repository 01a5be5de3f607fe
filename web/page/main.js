'use strict';
// Event handlers, and the start.

const EXAMPLE_SPEC = `openapi: 3.0.3
info: {title: Example, version: "1"}
servers: [{url: "https://example.com"}]
paths: {/status: {get: {operationId: getStatus, responses: {"200": {description: OK}}}}}`;

const on = (id, event, work) => $(id).addEventListener(event, work);
const entered = event => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !live) {
    prevent(event);
    send();
  }
};

for (const [id, work] of Object.entries({
  unedit,
  rename: shield(rename),
  remove: shield(remove),
  curl: () => copy(asCurl(lastCall)),
  python: () => copy(asPython(lastCall)),
  attach: () => $('files').click(),
  log: ({ target }) => {
    if (target.dataset.cite) cite(target);
  },
  skip: event => {
    prevent(event);
    $('human').focus();
  },
  new: () => {
    leave();
    $('human').focus();
  },
  more: () => toggle('nav'),
  panelButton: () => toggle('panel'),
  actionsButton: () => {
    $('actionsButton').ariaExpanded = $('bar').classList.toggle('open');
  },
  down: () => stick(true),
  create: () => make(null),
  edit: () => make(chosen()),
  mCancel: () => $('maker').close(),
  addFunction: () =>
    toolCard({
      type: 'function',
      function: {
        name: 'get_weather',
        parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
      },
    }).box.focus(),
  addAction: () =>
    toolCard({
      type: 'action',
      data: {
        openapi_spec: EXAMPLE_SPEC,
      },
    }).box.focus(),
  json: shield(async () => save(thread.id + '.json', 'application/json', laidOut(await load(thread.id)))),
  markdown: shield(async () => save(thread.id + '.md', 'text/markdown', asMarkdown(await load(thread.id)))),
}))
  on(id, 'click', work);
on('form', 'submit', event => {
  prevent(event);
  send();
});

on('makerForm', 'submit', makeIt);
on('human', 'keydown', entered);
on('system', 'keydown', event => {
  if (event.ctrlKey || event.metaKey) entered(event);
});

on('preset', 'change', preset);
on('files', 'change', () => {
  attach($('files').files);
  $('files').value = '';
}); // so that the same file can be chosen again
// Text copied from Word or Excel includes an image of it: the text is used.
const isText = ({ types }) => ['text/plain', 'text/html'].every(type => types.includes(type));
on('human', 'paste', event => {
  const data = event.clipboardData;
  if (data.files.length && !isText(data)) {
    prevent(event);
    attach(data.files);
  }
});

// Everywhere, because a file dropped outside the composer would replace the page.
addEventListener('dragover', event => {
  if (event.dataTransfer.types.includes('Files')) prevent(event);
});

addEventListener('drop', event => {
  const { files } = event.dataTransfer;
  if (files.length) {
    prevent(event);
    attach(files);
  }
});

on('log', 'scroll', onScroll);
on(
  'lang',
  'change',
  shield(() => setLanguage($('lang').value)),
);
on('server', 'change', () => {
  setBase($('server').value);
  connect();
});

for (const id of ['model', 'temperature', 'tokens']) {
  $(id).value = kept[id] ?? '';
  on(id, 'change', () => keep({ [id]: $(id).value }));
}

on('assistant', 'change', () => {
  keep({ assistant: $('assistant').value });
  chosen();
  warnBlind();
});

on('model', 'input', warnBlind);
const keepKey = () => secret.set($('keep').checked ? $('key').value : '');
on('keep', 'change', keepKey);
on('key', 'change', () => {
  keepKey();
  reconnect();
});

const hasTypedOutput = () => [...every('.ask textarea')].some(box => box.value !== box.defaultValue);
addEventListener('popstate', open);
addEventListener('keydown', event => {
  if (event.key !== 'Escape' || every('dialog[open]')[0]) return;
  if (closeDrawer()) return;
  if (edited) unedit();
  else if (live || !hasTypedOutput()) stop(); // what is typed stays
});

/** Contacts the server, also again: loads the texts, then the lists and the thread in the address. */
async function connect() {
  try {
    if (!texts.presets) await loadTexts();
  } catch {
    return showUnreachable();
  }
  translate();
  setLive(live);
  reconnect();
}

$('server').value = base;
$('server').readOnly = !disk;
$('key').value = secret.get() ?? '';
$('keep').checked = !!$('key').value;
arrange();
connect();
setInterval(() => {
  if (document.hidden) return;
  if (!texts.presets) return connect();
  look();
  waiting?.check();
}, 15000);
