'use strict';
// The server, its models and assistants, and the choice of them.

let assistants = [];
let models = [];

/** Reports that the server did not even send the texts: the markup has this one in English. */
function showUnreachable() {
  $('dot').className = 'dot bad';
  $('reach').textContent = $('reach').dataset.unreachable;
}

/** Looks whether the server is ready, and fetches its models and assistants once. */
async function look() {
  const show = (css, ...words) => {
    $('dot').className = 'dot ' + css;
    say($('reach'), ...words);
  };
  try {
    const ready = await fetch(base + '/ready', PLAIN);
    if (!ready.ok)
      return show('bad', 'notReady', Object.values((await ready.json()).checks).find(c => c !== 'ok') ?? '?');
    if (!$('models').children.length) await lists();
    show('ok', 'reachable');
  } catch (error) {
    show('bad', error.status === 401 ? 'locked' : 'unreachable');
    if (error.status === 401) drawer('panel', true);
  }
}

async function lists() {
  const [listed, found] = await Promise.all([get('/models'), all('/assistants?')]);
  models = listed.data.filter(m => !m.threadhold?.embeddings);
  $('models').replaceChildren(...models.map(m => el('option', { value: m.id })));
  put($('demo'), models.map(m => m.threadhold?.note ?? '').find(Boolean) ?? '');
  assistants = found.filter(a => a.metadata.threadhold !== 'facade');
  $('assistant').replaceChildren(
    el('option', { value: '', t: 'plain' }),
    ...assistants.map(a => el('option', { value: a.id }, a.name || a.id)),
  );
  $('assistant').value = assistants.some(a => a.id === kept.assistant) ? kept.assistant : '';
  chosen();
  warnBlind();
  nameModel();
}

function chosen() {
  const a = assistants.find(x => x.id === $('assistant').value);
  $('edit').disabled = !a;
  $('system').placeholder = a?.instructions ?? '';
  return a;
}

function reconnect() {
  $('models').replaceChildren();
  look();
  listThreads();
  open();
}

/** Names the model that will answer, where a new conversation begins. */
function nameModel() {
  const entry = modelEntry() ?? models[0];
  if ($('helloModel') && entry) say($('helloModel'), 'modelIs', entry.id);
}

/** Fills in an example, by its number. */
function choose(number) {
  $('preset').value = number;
  preset();
  $('human').focus();
}

function preset() {
  const p = texts.presets[$('preset').value];
  if (p) {
    $('system').value = p.system;
    $('human').value = p.human;
  }
}
