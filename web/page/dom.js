'use strict';
// Elements, their texts, and small helpers for them.

const laidOut = value => stringify(value, null, 2);
const { parse, stringify } = JSON;
const prevent = event => event.preventDefault();
const now = () => performance.now();
const $ = id => document.getElementById(id);
const every = css => document.querySelectorAll(css);

/** Creates an element, as `tag.class.class`; properties are optional. */
function el(name, props, ...children) {
  if (props?.constructor !== Object) {
    children.unshift(props);
    props = {};
  }
  const [tag, ...css] = name.split('.');
  const node = document.createElement(tag);
  node.classList.add(...css);
  for (const [key, value] of Object.entries(props)) {
    if (key === 't') say(node, ...[value].flat());
    else if (key.startsWith('on')) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

const word = (...words) => say(el('span'), ...words);
const button = (t, onclick, css = 'bare') => el('button', { type: 'button', class: css, t, onclick });
const shownText = text => el('pre', { tabindex: 0 }, text);

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // the old way, for plain HTTP
    const box = el('textarea.sr', text);
    document.body.append(box);
    box.select();
    document.execCommand('copy');
    box.remove();
  }
  announce('copied');
}

function copier(text) {
  const b = button('copy', async () => {
    await copy(text());
    say(b, 'copied');
    setTimeout(() => say(b, 'copy'), 1500);
  });
  return b;
}

function save(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  el('a', { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1e4);
}
