'use strict';
// Blocks of Markdown, as nodes.
// Invariants: drawing time grows linearly with the text, for any text. Blocks have a limit: a long text is drawn in
// pieces, and of a growing one only the last piece is drawn again.

const SOFT = 4096; // characters after which a block ends at the next good place
const LINES = 400; // the same in lines
const LONG = 2 * SOFT; // characters of a line that can have a meaning: a longer one is plain text
const HARD = 6 * SOFT; // characters after which a list or a quote ends anywhere
const CELLS = 1500; // of a table that is drawn at once
const COLUMNS = 100; // of a table; what follows stays in the last one

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEAD = /^ {0,3}(#{1,6})\s+(.*)/s;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+/;
const QUOTE = /^ {0,3}> ?/;
const isLong = line => line.length > LONG;
const isBlank = line => !/\S/.test(line);

/** Whether a line is three or more of one mark. */
function isRule(line) {
  const mark = /^ {0,3}([-*_])/.exec(line)?.[1];
  if (!mark || /[^\s*_-]/.test(line)) return false;
  const marks = line.replace(/\s/g, '');
  return marks.length > 2 && marks === mark.repeat(marks.length);
}

/** Whether a line stands between the head and the body of a table. */
const isDivider = (line = '') => line.includes('|') && line.includes('-') && !/[^\s:|-]/.test(line);
const starts = line => isLong(line) || isRule(line) || [FENCE, HEAD, QUOTE, ITEM].some(kind => kind.test(line));
const paragraph = text => inline(el('p'), text.trim());

/**
 * The block that begins at line `i`, or as much of it as is drawn at once: {node, end, taken, open, into}. `end` is the
 * next line, of which `taken` characters are drawn; `open` reads on where the block is not at its end, `into` is the
 * element that takes the node.
 */
function block(lines, i, depth) {
  const line = lines[i];
  const isTop = !depth;
  let m;
  let end = i + 1;
  if (isLong(line)) return longLine(lines, i);
  if ((m = FENCE.exec(line))) return codeBlock(m[1], m[2], isTop)(lines, end);
  if ((m = HEAD.exec(line))) return { end, node: inline(el(m[1].length < 4 ? 'h3' : 'h4'), headText(m[2])) };
  if (isRule(line)) return { end, node: el('hr') };
  if (QUOTE.test(line) && depth < DEEP) return quoteBlock(lines, i, depth);
  if ((m = ITEM.exec(line)) && depth < DEEP) return list(lines, i, depth, m);
  if (line.includes('|') && isDivider(lines[end]) && !isLong(lines[end])) return table(lines, end + 1, line);
  for (let size = line.length; end < lines.length && size < LONG && !isBlank(lines[end]) && !starts(lines[end]); end++)
    size += lines[end].length;
  return { end, node: paragraph(lines.slice(i, end).join('\n')) };
}

/** A heading without optional marks at its end. */
function headText(text) {
  const end = text.trimEnd();
  let at = end.length;
  while (end[at - 1] === '#') at--;
  return at && !isSpace(end[at - 1]) ? end : end.slice(0, at).trimEnd();
}

/** Splits a line that is too long for one piece, between words if possible. */
function longLine(lines, i) {
  const line = lines[i];
  if (!isLong(line)) return { end: i + 1, node: isBlank(line) ? null : paragraph(line) };
  const space = line.lastIndexOf(' ', SOFT);
  const taken = space > SOFT / 2 ? space : wholeCharacters(line, SOFT);
  const text = line.slice(0, taken);
  return { end: i, taken, node: isBlank(text) ? null : paragraph(text), open: longLine };
}

/** A position at which a text can be split: not within a pair of surrogates. */
const wholeCharacters = (text, at) => (/[\udc00-\udfff]/.test(text[at]) ? at - 1 : at);

function quoteBlock(lines, i, depth) {
  let end = i;
  let size = 0;
  // The last line can be the beginning of a line that is not blank.
  const isOver = () =>
    !depth &&
    (size > HARD ||
      end - i > LINES ||
      (size > SOFT && end < lines.length - 1 && isBlank(lines[end].replace(QUOTE, ''))));
  do size += lines[end++].length + 1;
  while (
    end < lines.length &&
    !isLong(lines[end]) &&
    !isOver() &&
    (QUOTE.test(lines[end]) || (!isBlank(lines[end]) && !starts(lines[end])))
  );
  return {
    end,
    node: el(
      'blockquote',
      ...blocks(
        lines.slice(i, end).map(line => line.replace(QUOTE, '')),
        depth + 1,
      ),
    ),
  };
}

function list(lines, i, depth, first, start = parseInt(first[2])) {
  const ordered = /\d/.test(first[2]);
  const root = el(ordered ? 'ol' : 'ul', ordered ? { start } : {});
  const edge = first[1].length + 2;
  let count = 0;
  let size = 0;
  let open;
  while (i < lines.length) {
    const m = ITEM.exec(lines[i]);
    if (!m || isLong(lines[i]) || /\d/.test(m[2]) !== ordered || m[1].length >= edge || isRule(lines[i])) break;
    if (!depth && (size > LONG || count === LINES)) {
      open = listRest(start + count);
      break;
    }
    const width = m[0].length;
    const body = [lines[i].slice(width)];
    size += lines[i++].length;
    for (; i < lines.length && !isLong(lines[i]) && (depth || size < HARD); size += lines[i++].length + 1) {
      const indent = lines[i].search(/\S/);
      if (indent < 0) {
        if ((lines[i + 1] ?? '').search(/\S/) < edge) break;
        body.push('');
      } else if (indent >= Math.min(width, edge)) body.push(lines[i].slice(Math.min(indent, width)));
      else if (!starts(lines[i]) && body.at(-1)) body.push(lines[i]);
      else break;
    }
    root.append(el('li', ...blocks(body, depth + 1)));
    count++;
    while (i < lines.length && isBlank(lines[i]) && ITEM.test(lines[i + 1] ?? '')) i++;
  }
  return { end: i, node: root, open };
}

/** A continued list continues its numbers. */
const listRest = start => (lines, i) => {
  const m = ITEM.exec(lines[i]);
  return m && !isLong(lines[i]) ? list(lines, i, 0, m, start) : block(lines, i, 0);
};

/** The cells of a line; excess cells stay in the last one. */
function cells(line) {
  const all = line
    .trim()
    .replace(/^\||\|$/g, '')
    .split(/(?<!\\)\|/);
  return all.length > COLUMNS ? [...all.slice(0, COLUMNS - 1), all.slice(COLUMNS - 1).join('|')] : all;
}

const row = (texts, name, props = {}) =>
  el('tr', ...texts.map(text => inline(el(name, props), text.trim().replaceAll('\\|', '|'))));

/** A table whose rows start at `i`; a continued one has no head. */
function table(lines, i, head) {
  const body = el('tbody');
  const node = el(
    'div.wide',
    { tabindex: 0, role: 'group' },
    el('table', head !== undefined && el('thead', row(cells(head), 'th', { scope: 'col' })), body),
  );
  let count = 0;
  let size = 0;
  const isRow = line => line?.includes('|') && !isLong(line);
  for (; isRow(lines[i]) && count < CELLS && size < HARD; i++) {
    const texts = cells(lines[i]);
    body.append(row(texts, 'td'));
    count += texts.length;
    size += lines[i].length;
  }
  return { end: i, node, open: isRow(lines[i]) ? tableRest : null };
}

const tableRest = (lines, i) => (lines[i].includes('|') && !isLong(lines[i]) ? table(lines, i) : block(lines, i, 0));

/** A reader of code up to the line that ends it. The code is one block, in pieces, and copied as a whole. */
function codeBlock(mark, language, isCut) {
  const parts = [];
  const pre = el('pre', { tabindex: 0 });
  const root = el(
    'div.block',
    el(
      'div.row.dim',
      language.slice(0, 64) || ' ',
      copier(() => parts.join('')),
    ),
    pre,
  );
  const isEnd = line => line.trimStart().startsWith(mark) && /^\s*[`~]+\s*$/.test(line);
  const piece = (place, text, glue, { isEmpty, ...rest }) => {
    parts.length = place;
    if (place && isEmpty) return rest;
    parts[place] = glue + text;
    const node = el(place ? 'code.more' : 'code', text + (rest.open && !rest.taken ? '\n' : ''));
    if (place) return { ...rest, node, into: pre };
    pre.append(node);
    return { ...rest, node: root };
  };
  const reader = (place, glue) =>
    Object.assign(
      (lines, i) => {
        const isRestOfLine = place && !glue;
        const isOver = at => at === lines.length || (isEnd(lines[at]) && !(isRestOfLine && at === i));
        let end = i;
        for (let size = 0; !isOver(end) && !(isCut && (size > LONG || end - i > LINES || isLong(lines[end]))); end++)
          size += lines[end].length + 1;
        const text = lines.slice(i, end).join('\n');
        if (isOver(end)) return piece(place, text, glue, { end: end + 1, isEmpty: end === i });
        if (end > i) return piece(place, text, glue, { end, open: reader(place + 1, '\n') });
        const taken = wholeCharacters(lines[i], SOFT);
        return piece(place, lines[i].slice(0, taken), glue, { end, taken, open: reader(place + 1, '') });
      },
      { isCode: true },
    );
  return reader(0, '');
}

/** The next piece of a text whose last piece left `open`. */
const piece = (lines, i, depth, open) => (open ?? block)(lines, i, depth);
const isGap = (line, open) => !open?.isCode && isBlank(line);

/** The nodes of a complete text. */
function blocks(lines, depth = 0) {
  const nodes = [];
  for (let i = 0, open = null; i < lines.length;) {
    if (isGap(lines[i], open)) {
      open = null;
      i++;
      continue;
    }
    const { node, end, taken = 0, into, open: rest } = piece(lines, i, depth, open);
    if (into) into.append(node);
    else if (node) nodes.push(node);
    i = end;
    open = rest;
    if (taken) lines[i] = lines[i].slice(taken);
  }
  return nodes;
}
