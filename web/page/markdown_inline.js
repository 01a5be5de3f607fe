'use strict';
// Marks within a line of Markdown, as nodes.

const DEEP = 8; // levels of nesting

const ELEMENTS = { '*1': 'em', _1: 'em', '*2': 'strong', _2: 'strong', '~2': 'del' };

/** Append a text with inline marks to `host`, and return it. Marks that are nested too deep stay text. */
function inline(host, text, isLabel = false) {
  const levels = [{ host }];
  let words = '';
  const append = node => {
    if (words) levels.at(-1).host.append(words);
    words = '';
    if (node) levels.at(-1).host.append(node);
  };
  const enter = (char, width) => {
    const mark = char.repeat(width);
    if (levels.length > DEEP) {
      words += mark;
      return levels.push({ host: levels.at(-1).host, mark });
    }
    const node = el(ELEMENTS[char + width]);
    append(node);
    levels.push({ host: node });
  };
  const leave = () => {
    const { mark } = levels.at(-1);
    if (mark) words += mark;
    else append();
    levels.pop();
  };
  for (const token of new Scanner(text, isLabel).scan()) {
    if (typeof token === 'string') words += token;
    else if (token.node) append(token.node);
    else if (token.width) leave();
    else {
      words += token.char.repeat(token.count);
      for (const width of token.opens.reverse()) enter(token.char, width);
    }
  }
  append();
  return host;
}
