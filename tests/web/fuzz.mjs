// Loads the parser of events from the page's folder (first argument) and feeds it a hostile stream, split at every position.
import { deepStrictEqual } from 'node:assert';
import { load } from './sources.mjs';

const { readEvents } = load(process.argv[2], ['sse'], ['readEvents']);
const stream = Buffer.from('\ufeff: hello\r\n\r\nid: 1\nevent: a\ndata: {"x":"é😀"}\n\n' +
  'data: one\r\ndata:two\r\ndata\r\n\r\nevent: cr\rdata: 3\rid: 7\r\r:ping\n\nevent: end\r\n\r\nretry: 5\nother: x\ndata:  spaced\n\nid: 9\ndata: never ended\n');
const wanted = [
  { event: 'a', data: '{"x":"é😀"}', id: '1' }, { event: 'message', data: 'one\ntwo\n', id: '1' }, { event: 'cr', data: '3', id: '7' },
  { event: 'end', data: '', id: '7' }, { event: 'message', data: ' spaced', id: '7' },
];
async function read(chunks) {
  const out = [];
  for await (const event of readEvents((async function* () { yield* chunks; })())) out.push(event);
  return out;
}
const cut = places => [0, ...places].map((at, i) => stream.subarray(at, places[i] ?? stream.length));
for (let at = 0; at <= stream.length; at++) {
  deepStrictEqual(await read(cut([at])), wanted, `cut at ${at}`);
  for (let more = at; more <= stream.length; more += 3) deepStrictEqual(await read(cut([at, more])), wanted, `cut at ${at} and ${more}`);
}
deepStrictEqual(await read([...stream].map(byte => Uint8Array.of(byte))), wanted, 'byte by byte');
