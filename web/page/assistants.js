'use strict';
// The editor of assistants and their tools.

let tools = [];
let making;

/** Returns the error in a tool's text, as arguments for `say`. */
function wrongWith(type, text) {
  const wrong = broken(text);
  const value = !wrong && /^\s*\{/.test(text) && parse(text);
  if (wrong) return wrong;
  if (type !== 'function')
    return (
      value ? /^3\./.test(value.openapi) && value.paths : /^openapi:\s*["']?3\./m.test(text) && /^paths:/m.test(text)
    )
      ? null
      : ['badOpenapi'];
  const { name, parameters = null } = bare(value);
  return typeof name === 'string' && /^[\w-]{1,64}$/.test(name) && /^[{n]/.test(stringify(parameters))
    ? null
    : ['badFunction'];
}

/** A function, also if it was pasted as a complete tool. */
const bare = value => value.function ?? value;

function toolCard(tool) {
  const id = 'tool' + crypto.getRandomValues(new Uint32Array(1));
  const { type, data } = tool;
  const entry = { read: () => tool };
  const spec = data?.openapi_spec ?? tool.function;
  const drop = button('drop', () => {
    tools = tools.filter(x => x !== entry);
    entry.node.remove();
    $('addFunction').focus();
  });
  if (!spec) entry.node = el('div.tool.row', el('span.grow', type), drop);
  else {
    const note = el('p', { id: id + 'n', role: 'status' });
    const first = el('input', { type: 'checkbox' });
    const box = (entry.box = el('textarea.code', { rows: 9, id, spellcheck: false, 'aria-describedby': note.id }));
    box.value = typeof spec === 'string' ? spec : laidOut(spec);
    first.checked = data?.is_consequential;
    entry.judge = () => {
      const wrong = wrongWith(type, box.value);
      note.className = wrong ? 'wrong' : 'fine';
      say(note, ...(wrong ?? ['ok']));
      box.ariaInvalid = !!wrong;
      return !wrong;
    };
    entry.read = () =>
      data
        ? {
            ...tool,
            data: {
              ...data,
              openapi_spec: box.value,
              ...((first.checked || 'is_consequential' in data) && { is_consequential: first.checked }),
            },
          }
        : { ...tool, function: bare(parse(box.value)) };
    box.addEventListener('input', entry.judge);
    entry.judge();
    entry.node = el(
      'div.tool',
      el('div.row', el('label.grow', { for: id, t: data ? 'openapi' : 'functionJson' }), drop),
      box,
      note,
      data && el('label', first, word('askFirst')),
    );
  }
  tools.push(entry);
  $('mTools').append(entry.node);
  return entry;
}

function make(a) {
  making = a;
  tools = [];
  $('mTools').replaceChildren();
  $('mProblem').replaceChildren();
  say($('makerTitle'), a ? 'editAssistant' : 'newAssistant');
  $('mName').value = a?.name ?? '';
  $('mModel').value = a?.model ?? $('model').value;
  $('mText').value = a?.instructions ?? $('system').value;
  a?.tools.forEach(toolCard);
  $('maker').showModal();
}

async function makeIt(event) {
  prevent(event);
  const wrong = tools.find(entry => entry.judge && !entry.judge());
  if (wrong) return wrong.box.focus();
  try {
    const made = await post('/assistants' + (making ? '/' + making.id : ''), {
      name: $('mName').value || null,
      model: $('mModel').value,
      instructions: $('mText').value || null,
      tools: tools.map(entry => entry.read()),
    });
    keep({ assistant: made.id });
    $('system').value = '';
    await lists();
    $('maker').close();
  } catch (error) {
    $('mProblem').replaceChildren(problem(error));
  }
}
