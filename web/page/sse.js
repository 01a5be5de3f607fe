'use strict';
// Reads server-sent events from bytes.

/** Yields the events of a stream of bytes as {event, data, id}; an incomplete last event is dropped. */
async function* readEvents(chunks) {
  const decoder = new TextDecoder();
  let rest = '';
  let afterCr = false;
  let event = '';
  let data = null;
  let id = '';
  for await (const chunk of chunks) {
    let text = decoder.decode(chunk, { stream: true });
    if (!text) continue;
    if (afterCr && text[0] === '\n') text = text.slice(1);
    afterCr = text.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = rest + lines[0]; // what came before is not searched again
    rest = lines.pop();
    for (const line of lines) {
      if (!line) {
        if (event || data !== null) yield { event: event || 'message', data: data ?? '', id };
        event = '';
        data = null;
        continue;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === 'event') event = value;
      else if (name === 'data') data = data === null ? value : data + '\n' + value;
      else if (name === 'id' && !value.includes('\0')) id = value;
    }
  }
}
