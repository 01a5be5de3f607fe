'use strict';
// JSON as text: laid out, and checked.

const isDeep = (value, left = 32) =>
  value !== null && typeof value === 'object' && (!left || Object.values(value).some(inner => isDeep(inner, left - 1)));

/** JSON, laid out. Deep JSON stays unchanged, as its indents would be longer than its text; so does very long JSON. */
function pretty(text) {
  if (text.length > 2 ** 17) return text;
  try {
    const value = parse(text);
    return isDeep(value) ? text : laidOut(value);
  } catch {
    return text;
  }
}

/** Returns the error in JSON, as arguments for `say`; a function can return plain text too. */
function broken(text) {
  if (/^\s*[[{"]/.test(text))
    try {
      parse(text);
    } catch (error) {
      return ['badJson', error.message];
    }
}
