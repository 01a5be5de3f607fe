// Loads the scripts that read untrusted text from the page's folder (first argument), and feeds it hostile text of some length
// (second argument). The law: four times the text takes about four times the work, drawn at once or piece by piece
// while it arrives.
import { deepStrictEqual, ok } from 'node:assert';
import { load } from './sources.mjs';

const SIZE = Number(process.argv[3]); // characters, and four times as many
const MOST_GROWTH = 9; // for four times the text; quadratic code takes sixteen times as long
const NOTHING_MS = 4; // shorter times do not show growth
const TRIES = 8; // on a machine with other load

const folder = process.argv[2];

const ENDLESS = { isLeft: () => true, spend: () => {} };
class Element {
  constructor(name, props, children) {
    Object.assign(this, { name, props });
    this.children = [];
    this.append(...children.filter(Boolean));
  }
  append(...children) {
    for (const child of children) {
      if (child instanceof Element) child.parent = this;
      this.children.push(child);
    }
  }
  remove() {
    const { children } = this.parent;
    children.splice(children.lastIndexOf(this), 1);
  }
  replaceChildren() { this.children = []; }
  get textContent() { return this.children.map(child => child.textContent ?? child).join(''); }
  get shown() {
    const { href, start } = this.props, inner = this.children.map(child => child.shown ?? child).join('');
    if (this.name === 'div.part') return inner;
    return `<${this.name}${href ? ' ' + href : ''}${start ? ' ' + start : ''}>${inner}</>`;
  }
}
const el = (name, props, ...children) => props?.constructor === Object ? new Element(name, props, children) : new Element(name, {}, [props, ...children]);
const surroundings = {
  el, now: () => performance.now(), copier: text => Object.assign(el('button'), { copied: text }),
  unfinished: new Set(), stick: () => {}, drawLater: () => {}, allowance: () => ENDLESS,
};
const MARKDOWN = ['markdown_scanner', 'markdown_inline', 'markdown_blocks', 'markdown'];
const { blocks, inline, Markdown } = load(folder, MARKDOWN, ['blocks', 'inline', 'Markdown'], surroundings);
const { readEvents } = load(folder, ['sse'], ['readEvents']);
const laidOut = value => JSON.stringify(value, null, 2);
const { pretty } = load(folder, ['json'], ['pretty'], { parse: JSON.parse, laidOut });
const { tokenCounts } = load(folder, ['problems'], ['tokenCounts']);
const fill = (text, size) => text.repeat(Math.ceil(size / text.length)).slice(0, size);
const growing = (make, size) => {
  let text = '';
  for (let i = 0; text.length < size; i++) text += make(i);
  return text;
};
const UNITS = {
  words: 'plain words ', brackets: '[', pictures: '![', 'pairs of brackets': '[]', 'closed brackets': ']', targets: '[a](', titles: '[a](b "', 'titles that end': '[a](b "c" ',
  links: '[a](http://a.b) ', 'relative links': '[a](b) ', addresses: 'http://a.b ', schemes: 'http://', 'pointed addresses': '<http://', dots: 'http://a.b.... ',
  'double ticks': '``a ', 'single ticks': '`a` ', strong: '**a ', 'strong underscores': '__a ', gone: '~~a ', soft: '*a ', underscores: ' _a', triple: '***a ', 'four stars': '****a ',
  stars: '*', 'mixed marks': '*_', 'mixed marks and words': '*_*_a', crossed: '**a*b**c*', 'closed in the wrong order': '*a _b* c_ ', 'ends only': 'a* b** c_ ', tildes: '~', escapes: '\\', 'escaped stars': '\\*',
  'footnotes that never end': '【0:0†', footnotes: '【0:0†a】', 'half footnotes': '【1', spaces: ' ', 'spaces in words': 'a  ', 'lines that break': 'a  \n', tabs: '\t', 'carriage returns': 'a\r',
  lines: 'a\n', 'blank lines': '\n', paragraphs: 'a\n\n', quotes: '> ', 'quoted lines': '> a\n', 'quotes in quotes': '> > > a\n> b\n', items: '- a\n', 'items apart': '- a\n\n', 'items in one line': '- ', numbers: '1. a\n', 'items in quotes': '> - a\n',
  headings: '# a\n', 'heading marks': 'a #', rules: '---\n', 'rules in one line': '- - _ ', fences: '```\n', 'fences of code': '```\na\n```\n', 'tildes and ticks': '~~~\n```\n', 'rows of bars': '|', tables: '|a|b|\n|-|-|\n', rows: '|a|b|\n', dividers: ':-|', html: '<b><i a="b">', surrogates: '😀', nothing: '\0',
};
const CASES = {
  ...Object.fromEntries(Object.entries(UNITS).map(([name, unit]) => [name, size => fill(unit, size)])),
  'ticks of all lengths': size => growing(i => '`'.repeat(i % 400 + 1) + 'a', size),
  'ticks of growing lengths': size => growing(i => '`'.repeat(i + 1) + 'a', size),
  'heading and spaces': size => '# a' + ' '.repeat(size) + 'b',
  'heading, spaces and a return': size => '# ' + ' '.repeat(size) + '\rb',
  'heading of marks': size => '# ' + fill('a #', size) + 'x',
  'spaces before a word': size => 'a' + ' '.repeat(size) + 'b',
  'address of dots': size => 'http://a' + '.'.repeat(size),
  'target of spaces': size => '[a](' + ' '.repeat(size),
  'targets of spaces': size => fill('[](' + ' '.repeat(50), size),
  'row of bars': size => '|a|\n|-|\n' + fill('|', size),
  'rows of bars under a head': size => '|a|\n|-|\n' + fill('|||||||||\n', size),
  'rows under a head': size => '|a|b|\n|-|-|\n' + fill('| *a | `b\n', size),
  'row of dividers': size => 'a|\n' + fill(': -', size) + 'x|',
  'head of cells': size => fill('a|', size) + '\n' + fill('-|', size),
  'rule that is none': size => fill('- ', size) + 'x',
  'stairs of items': size => growing(i => ' '.repeat(i % 60) + '- a\n', size),
  'stairs of quotes': size => growing(i => '>'.repeat(i % 60 + 1) + ' a\n', size),
  'item of lines': size => '- a\n' + fill('  b\n', size),
  'item of code': size => '- ```\n' + fill('  b\n', size),
  'nested both ways': size => fill('*a **b ', size / 2) + fill('b** a*', size / 2),
  'code of lines': size => '```\n' + fill('a\n', size),
  'code in one line': size => '```\n' + fill('a ', size),
  'ticks in code': size => '~~~\n' + fill('```\n', size),
  'mark of a fence': size => fill('`', size / 2) + '\n' + fill('```\n', size / 2),
};

function whole(text) {
  const host = el('div');
  for (const node of blocks(text.split('\n'))) host.append(node);
  return host;
}
/** A text as it is drawn while it arrives in pieces. */
function streamed(text, length = 1999) {
  const host = el('div'), markdown = new Markdown(host);
  for (let at = 0; at < text.length; at += length) {
    markdown.add(text.slice(at, at + length));
    markdown.draw(ENDLESS);
  }
  return host;
}
const processorMs = async work => {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
};
async function growsLinearly(name, work) {
  let small = Infinity, large = Infinity;
  for (let tries = 0; tries < TRIES; tries++) {
    small = Math.min(small, await processorMs(() => work(SIZE)));
    large = Math.min(large, await processorMs(() => work(4 * SIZE)));
    if (large <= MOST_GROWTH * Math.max(small, NOTHING_MS)) return process.env.VERBOSE && console.log(name, small, large);
  }
  ok(false, `${name}: ${small.toFixed(1)} ms, and ${large.toFixed(1)} ms for four times as much`);
}
async function readInPieces(size) {
  const bytes = Buffer.from(`data: ${'x'.repeat(8 * size)}\n\n`);
  const pieces = (async function* () { for (let at = 0; at < bytes.length; at += 64) yield bytes.subarray(at, at + 64); })();
  for await (const { data } of readEvents(pieces)) deepStrictEqual(data.length, 8 * size);
}
function codeIsCopiedWhole() {
  for (const code of [growing(i => `line ${i}\n`, SIZE), 'x'.repeat(SIZE), growing(i => '\n'.repeat(i % 9) + 'y'.repeat(i * 50 % 20_000), SIZE), '', 'a', 'a\n\n']) {
    for (const host of [whole('```\n' + code + '\n```\nend'), streamed('```\n' + code + '\n```\nend', 100)]) {
      const copied = host.children[0].children[0].children.find(child => child.copied).copied();
      ok(copied === code, 'a block of code is copied as it was written');
      deepStrictEqual(host.children.length, 2);
    }
  }
}

for (const [name, make] of Object.entries(CASES)) {
  await growsLinearly(name, size => whole(make(size)));
  await growsLinearly(`${name}, in one paragraph`, size => inline(el('p'), make(size)));
  await growsLinearly(`${name}, streamed`, size => streamed(make(size)));
  const text = make(SIZE);
  ok(streamed(text).shown === whole(text).shown, `${name}: streamed as loaded`);
}
codeIsCopiedWhole();
await growsLinearly('an event in pieces', readInPieces);
await growsLinearly('digits in an error', size => tokenCounts(fill('1', size)));
await growsLinearly('digits and commas in an error', size => tokenCounts(fill('1,', size)));
deepStrictEqual(tokenCounts('4,096 tokens, but 5000 input tokens'), [5000, 4096]);
for (const depth of [100, 2_000, 100_000]) {
  const deep = '['.repeat(depth) + ']'.repeat(depth);
  ok(pretty(deep) === deep, 'deep JSON is shown as it came');
}
ok(pretty(fill('[1],', SIZE)) === fill('[1],', SIZE), 'what is no JSON is shown as it came');
deepStrictEqual(pretty('{"a":[1]}'), laidOut({ a: [1] }));
