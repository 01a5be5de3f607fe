'use strict';
// Messages: their text, their author and time, and those of the user.

const textOf = message =>
  message.content
    .map(part => part.text?.value ?? part.image_url?.url ?? `[${part.image_file?.file_id ?? part.type}]`)
    .join('\n');

/** A time in Unix seconds, in the reader's language; with its date if that is not today. */
function timeText(seconds) {
  const date = new Date(seconds * 1000);
  const time = { hour: 'numeric', minute: '2-digit' };
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(lang, isToday ? time : { dateStyle: 'medium', timeStyle: 'short' });
}

/** The line above a message: a node with the author's name, and the time. */
function author(name, seconds) {
  return el('div.who', name, seconds && el('time', { 'data-at': seconds }, timeText(seconds)));
}

/** A message of the user; `at` is its time in Unix seconds. */
function userMessage(text, { id = '', files = [], isPlain = true, at }) {
  const node = el('article.me', { 'data-id': id }, author(word('you'), at), el('div.text', text), ...files.map(chip));
  const resend = () => {
    edit(node);
    $('human').value = text;
    $('human').focus();
  };
  node.append(
    el(
      'div.tools',
      copier(() => text),
      isPlain && !files.length && button('resend', resend),
    ),
  );
  return node;
}
