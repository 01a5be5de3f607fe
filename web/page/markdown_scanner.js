'use strict';
// Reads the marks within a line of Markdown.

// Invariants: reading time grows linearly with the text, for any text. Marks are read once, from left to right.

/** Finds the next position of a character. Lookups go from left to right, so the text is searched once. */
class Finder {
  asked = 0;
  found = -1;
  constructor(text, pattern) {
    this.text = text;
    this.pattern = pattern;
  }
  /** Returns the position of the first one from `at` on; the length of the text if there is none. */
  next(at) {
    if (at < this.asked || at > this.found) {
      this.pattern.lastIndex = at;
      this.found = this.pattern.exec(this.text)?.index ?? this.text.length;
    }
    this.asked = at;
    return this.found;
  }
}

const READERS = {
  '\\': 'escape',
  '`': 'code',
  '*': 'emphasis',
  _: 'emphasis',
  '~': 'strike',
  '[': 'bracket',
  h: 'address',
  '【': 'citation',
  ' ': 'spaces',
};

const isSpace = char => char === undefined || /\s/.test(char);
const isWord = char => char !== undefined && /[A-Za-z0-9]/.test(char);

function link(href, label) {
  if (!/^(https?|mailto):/i.test(href) || !URL.canParse(href)) return null;
  const { host } = new URL(href);
  const a = inline(el('a', { href, rel: 'noopener noreferrer nofollow', target: '_blank' }), label, true);
  return host && !a.textContent.includes(host) ? [a, el('span.dim', ` (${host})`)] : [a];
}

/**
 * Reads a text's inline marks into tokens: a string, {node}, {char, count, opens} for marks that are still text and
 * the widths that they open, or {char, width} for an end. Each reader returns where to go on.
 */
class Scanner {
  tokens = [];
  from = 0;
  ticks = null;
  tried = -1;
  target = null;
  openers = { '*1': [], '*2': [], _1: [], _2: [], '~2': [] };
  constructor(text, isLabel) {
    this.text = text;
    this.isLabel = isLabel;
    this.brackets = new Finder(text, /\]/g);
    this.hrefEnds = new Finder(text, /[\s)>]/g);
    this.quotes = new Finder(text, /"/g);
    this.addressEnds = new Finder(text, /[\s<>]/g);
    this.citationEnds = new Finder(text, /】/g);
  }
  scan() {
    const mark = /[\\`*_~[【]|https?:\/\/| {2,}/g;
    for (let found; (found = mark.exec(this.text));) mark.lastIndex = this[READERS[found[0][0]]](found.index, found[0]);
    this.plain(this.text.length);
    return this.tokens;
  }
  /** Text up to `at` that was not read as a mark. */
  plain(at) {
    if (at > this.from) this.tokens.push(this.text.slice(this.from, at));
    this.from = at;
  }
  emit(at, end, ...tokens) {
    this.plain(at);
    this.tokens.push(...tokens);
    return (this.from = end);
  }
  after(pattern, at) {
    pattern.lastIndex = at;
    return at + pattern.exec(this.text)[0].length;
  }
  escape(at) {
    const next = this.text[at + 1];
    if (next === '\n') return this.emit(at, at + 2, { node: el('br') });
    return next && '\\`*_{}[]()#+-.!|~>'.includes(next) ? this.emit(at, at + 2, next) : at + 1;
  }
  spaces(at, { length }) {
    const end = at + length;
    return this.text[end] === '\n' ? this.emit(at, end + 1, { node: el('br') }) : end;
  }
  /** The positions of the runs of backticks by their length, the last one first. */
  tickRuns() {
    const runs = new Map();
    for (const {
      index,
      0: { length },
    } of [...this.text.matchAll(/`+/g)].reverse()) {
      if (!runs.has(length)) runs.set(length, []);
      runs.get(length).push(index);
    }
    return runs;
  }
  code(at) {
    this.ticks ??= this.tickRuns();
    const start = this.after(/`+/y, at);
    const size = start - at;
    const places = this.ticks.get(size) ?? [];
    while (places.at(-1) < start) places.pop();
    if (!places.length) return start;
    const end = places.at(-1);
    return this.emit(at, end + size, { node: el('code', this.text.slice(start, end)) });
  }
  /** Neighboring runs of `*` and `_` share the text before and after them. Single ones count only at a word's edge. */
  emphasis(at) {
    const end = this.after(/[*_]+/y, at);
    const before = this.text[at - 1];
    const after = this.text[end];
    const opens = !isSpace(after);
    const closes = !isSpace(before);
    if (!opens && !closes) return end;
    this.plain(at);
    const sides = { opens, closes, opensOne: !isWord(before), closesOne: !isWord(after), floor: this.tokens.length };
    for (const run of this.text.slice(at, end).match(/\*+|_+/g)) this.run(run[0], run.length, sides);
    return (this.from = end);
  }
  strike(at) {
    const end = this.after(/~+/y, at);
    const opens = !isSpace(this.text[end]);
    const closes = !isSpace(this.text[at - 1]);
    if (end - at !== 2) return end;
    this.plain(at);
    this.run('~', 2, { opens, closes, floor: this.tokens.length });
    return (this.from = end);
  }
  /** Marks close open ones where possible. The others can open something. */
  run(char, count, { opens, closes, opensOne, closesOne, floor }) {
    while (closes && count) {
      const width = this.close(char, count, closesOne, floor);
      if (!width) break;
      count -= width;
    }
    if (!count) return;
    const place = this.tokens.push({ char, count, opens: [] }) - 1;
    if (!opens) return;
    if (count > 1) this.openers[char + 2].push(place);
    if (count % 2 && opensOne) this.openers[char + 1].push(place);
  }
  /** End the nearest opener below `floor` that fits; returns how many marks that takes. */
  close(char, count, closesOne, floor) {
    const newest = width => this.openers[char + width].at(-1) ?? -1;
    const two = count > 1 ? newest(2) : -1;
    const one = count % 2 && closesOne ? newest(1) : -1;
    const place = Math.max(one, two);
    if (place < 0 || place >= floor) return 0;
    const width = place === two ? 2 : 1;
    const opener = this.tokens[place];
    // An opener in between can never be closed now.
    for (const places of Object.values(this.openers)) while (places.at(-1) > place) places.pop();
    opener.count -= width;
    opener.opens.push(width);
    if (width === 1 || opener.count < 2) this.openers[char + width].pop();
    this.tokens.push({ char, width });
    return width;
  }
  /** A link, or a picture, which is shown as a link. */
  bracket(at) {
    const close = this.brackets.next(at);
    const target = close < this.text.length ? this.targetAt(close + 1) : null;
    if (!target) return at + 1;
    const start = at > this.from && this.text[at - 1] === '!' ? at - 1 : at;
    const label = this.text.slice(at + 1, close);
    const nodes = link(target.href, label || target.href);
    return this.emit(
      start,
      target.end,
      ...(nodes ? nodes.map(node => ({ node })) : [this.text.slice(start, target.end)]),
    );
  }
  /** Many brackets can share one target, which is read once. */
  targetAt(at) {
    if (this.tried !== at) {
      this.tried = at;
      this.target = this.readTarget(at);
    }
    return this.target;
  }
  /** `(address "title")` as {href, end}, or null. */
  readTarget(at) {
    const { text } = this;
    if (text[at] !== '(') return null;
    let start = this.after(/\s*/y, at + 1);
    if (text[start] === '<') start++;
    const stop = this.hrefEnds.next(start);
    const after = text[stop] === '>' ? stop + 1 : stop;
    let end = this.after(/\s*/y, after);
    if (end > after && text[end] === '"') {
      const quote = this.quotes.next(end + 1);
      if (quote < text.length) end = this.after(/\s*/y, quote + 1);
    }
    return text[end] === ')' ? { href: text.slice(start, stop), end: end + 1 } : null;
  }
  /** An address in the text. Marks at its end belong to the text around it. */
  address(at, { length: scheme }) {
    const first = at + scheme;
    let end = this.addressEnds.next(at);
    while (end > first && '.,:;!?"\')]*_~'.includes(this.text[end - 1])) end--;
    if (end === first || this.isLabel) return Math.max(first, end);
    const href = this.text.slice(at, end);
    const nodes = link(href, href);
    if (!nodes) return end;
    const start = at > this.from && this.text[at - 1] === '<' ? at - 1 : at;
    return this.emit(start, this.text[end] === '>' ? end + 1 : end, ...nodes.map(node => ({ node })));
  }
  citation(at) {
    const head = /【(\d+):(\d+)†/y;
    head.lastIndex = at;
    const found = head.exec(this.text);
    if (!found) return at + 1;
    const end = this.citationEnds.next(head.lastIndex);
    if (end === this.text.length) return head.lastIndex;
    return this.emit(at, end + 1, {
      node: el('sup', el('button', { type: 'button', 'data-cite': found[1] + ' ' + found[2] }, +found[2] + 1)),
    });
  }
}
