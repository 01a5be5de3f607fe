'use strict';
// A text of Markdown that grows.

const WINDOW = 10 * SOFT; // characters that are looked at together: more than a block and the line that ends it
const PART = 200; // nodes with the same parent

/** A growing text in `host`: `done` is drawn and final, `rest` can still change. */
class Markdown {
  constructor(host) {
    this.host = host;
    this.set('');
  }
  get text() {
    return this.done + this.rest;
  }
  set(text) {
    this.host.replaceChildren();
    this.done = '';
    this.rest = text;
    this.open = null;
    this.tail = [];
    this.isDrawn = false;
    this.part = this.host;
    this.finished = 0;
    this.flush();
  }
  add(text) {
    this.rest += text;
    this.isDrawn = false;
    drawLater(this);
  }
  /** Draws as much as this task has time for, and the rest in later frames. */
  flush() {
    if (this.draw(allowance())) unfinished.delete(this);
    else drawLater(this);
    stick();
  }
  /** Draws until the budget is used up; returns whether everything is drawn. */
  draw(budget) {
    while (!this.isDrawn && budget.isLeft()) this.drawWindow(budget);
    return this.isDrawn;
  }
  /** Draw pieces of the rest. Those that the end of the text can still change are drawn again when it has grown. */
  drawWindow(budget) {
    const isLast = this.rest.length <= WINDOW;
    const lines = this.rest.slice(0, WINDOW).split('\n');
    this.clear();
    for (let i = 0; i < lines.length && budget.isLeft();) {
      const found = this.read(lines, i, this.open);
      const next = found.next;
      const canChange = !found.taken && (next >= lines.length || (next === lines.length - 1 && !isLong(lines[next])));
      if (canChange && isLast) return this.drawTail(lines, found);
      if (canChange && i) return; // look again from here
      this.place(found);
      this.open = found.open;
      const length = lines.slice(i, next).reduce((sum, line) => sum + line.length + 1, found.taken);
      this.finish(next === lines.length ? length - 1 : length); // a window's last line has no end
      budget.spend(next - i + length / 80);
      i = next;
      if (found.taken) lines[i] = lines[i].slice(found.taken);
    }
  }
  /** Mark that many characters as final. */
  finish(length) {
    this.done += this.rest.slice(0, length);
    this.rest = this.rest.slice(length);
    if (++this.finished % PART === 0) this.part = null;
  }
  /** The last pieces: an incomplete line can belong to the one before. */
  drawTail(lines, found) {
    this.tail.push(this.place(found));
    if (found.next < lines.length) this.tail.push(this.place(this.read(lines, found.next, found.open)));
    this.isDrawn = true;
  }
  /** The piece at line `i`, with the blank lines after it; `next` is the start of the one after it. */
  read(lines, i, open) {
    const {
      node,
      end,
      taken = 0,
      into,
      open: rest = null,
    } = isGap(lines[i], open) ? { end: i + 1 } : piece(lines, i, 0, open);
    let next = end;
    if (!taken) while (next < lines.length && isGap(lines[next], rest)) next++;
    return { node, into, taken, next, open: next > end ? null : rest };
  }
  /** Browsers check all children of a node when one is added: after many, the next ones get a parent of their own. */
  place({ node, into }) {
    if (!node) return null;
    if (!this.part) this.host.append((this.part = el('div.part')));
    (into ?? this.part).append(node);
    return node;
  }
  clear() {
    for (const node of this.tail) node?.remove();
    this.tail = [];
  }
}
