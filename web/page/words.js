'use strict';
// The texts of the page in the reader's language.

const LANGUAGES = ['en', 'fr'];
let lang = LANGUAGES.find(each => each === kept.lang) ?? (/^fr/i.test(navigator.language) ? 'fr' : 'en');
let texts = {};

/** Loads the texts of the language; until then, the page has the English ones of its markup. Raises if that fails. */
async function loadTexts() {
  const wanted = lang;
  const answer = await fetch(`${base}/page/${wanted}.json`, { credentials: 'omit' });
  if (!answer.ok) throw failure({ message: `HTTP ${answer.status}`, status: answer.status });
  const found = await answer.json();
  if (wanted === lang) texts = found;
}

async function setLanguage(chosen) {
  lang = chosen;
  keep({ lang });
  await loadTexts();
  translate();
}

const t = (key, ...args) =>
  (texts[key] ?? key).replace(/\{(\d)\}/g, (_, n) =>
    typeof args[n] === 'number' ? args[n].toLocaleString(lang, { maximumFractionDigits: 2 }) : args[n],
  );

/** Sets the text of a node, in the current language and after each change of it. */
function say(node, key, ...args) {
  node.dataset.t = key;
  node.dataset.a = stringify(args);
  node.textContent = t(key, ...args);
  return node;
}

function put(node, text) {
  delete node.dataset.t;
  node.textContent = text;
  return node;
}

const announce = (...words) => say($('announcer'), ...words);

/** Shows all texts in the loaded language. */
function translate() {
  document.documentElement.lang = $('lang').value = lang;
  for (const node of every('[data-t]')) {
    node.textContent = t(node.dataset.t || node.htmlFor || node.id, ...parse(node.dataset.a || '[]'));
  }
  for (const node of every('[data-l]')) node.ariaLabel = node.title = t(node.dataset.l);
  for (const node of every('[data-p]')) node.placeholder = t(node.dataset.p);
  for (const node of every('[data-at]')) node.textContent = timeText(+node.dataset.at);
  $('preset').replaceChildren(
    el('option', { value: '', t: 'ownText' }),
    ...texts.presets.map((preset, i) => el('option', { value: i }, preset.name)),
  );
  if (!thread) hello();
}
