'use strict';
// Errors, with what to do about them.

/** Returns the numbers of tokens in an error message, the largest one first. */
const tokenCounts = message =>
  (message.match(/\d[\d,]{0,20}(?= (?:input |prompt )?tokens)/g) ?? [])
    .map(n => +n.replaceAll(',', ''))
    .sort((a, b) => b - a);

/** The key of the text that says what to do about an error. */
function hintFor({ message, code, status }) {
  if (/context/i.test(message)) return 'h_context';
  if (code === 'network') return 'h_net';
  if (/MODEL_URL/.test(message)) return 'h_5';
  if (/^rate_limit/.test(code)) return 'h_429';
  if (texts['h_' + status]) return 'h_' + status;
  if (status >= 500) return 'h_5';
  return status ? 'h_400' : 'h_model';
}

/** Shows an error: {message, code, status, request}, where `request` is the request's id. */
function problem(error) {
  const { message, code, request } = error;
  const hint = hintFor(error);
  const counts = hint === 'h_context' ? tokenCounts(message) : [];
  return el(
    'div.problem',
    { role: 'alert' },
    el('p', el('strong', { t: 'wentWrong' }), ' ', message),
    el('p.dim', [code, request].filter(Boolean).join(' · ')),
    counts.length > 1 && el('p', word('context', counts[0], counts.at(-1))),
    el('p', '→ ', word(hint, base)),
  );
}

/** Wraps an action so that its error is shown at the end of the conversation. */
function shield(work) {
  return async (...args) => {
    try {
      return await work(...args);
    } catch (error) {
      if (error.name === 'AbortError') return;
      $('log').append(problem(error));
      stick(true);
    }
  };
}
