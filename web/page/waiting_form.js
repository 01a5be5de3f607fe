'use strict';
// The form of a run that waits: outputs of functions, and approvals of requests.

/** A form for all calls that a run waits for. `start` begins the countdown, and `close` removes the form. */
class WaitingForm {
  left = el('span.dim');
  wrong = el('p.wrong', { role: 'alert' });

  constructor(view, run) {
    this.view = view;
    this.run = run;
    this.parts = run.required_action.submit_tool_outputs.tool_calls.map(call => this.part(call));
    const hasSubmit = this.parts.length > 1 || this.parts.some(part => !part.request);
    this.node = el(
      'form.ask.stack',
      { onsubmit: event => this.submit(event) },
      el('div.row', el('strong.grow', { t: 'asks' }), this.left),
      ...this.parts.map(part => part.node),
      this.wrong,
      el('div.row', hasSubmit && el('button.main', { t: 'submit' }), button('stop', stop, '')),
    );
  }

  start() {
    if (this.parts.some(part => part.request)) this.showRequests();
    this.tick();
    this.timer = setInterval(() => this.tick(), 1000);
    this.focus();
  }

  close() {
    this.node.remove();
    this.pause();
  }

  /** Stops the countdown. */
  pause() {
    clearInterval(this.timer);
  }

  /** Focuses the first call; never Approve, which an Enter meant for the composer would press. */
  focus() {
    this.node.querySelector('textarea, .request').focus({ preventScroll: true });
  }

  /** One call: {id, node, value}, and `request` if it waits for approval. */
  part({ id, function: { name, arguments: given } }) {
    const isFunction = this.run.tools.some(tool => tool.function?.name === name);
    const node = el('fieldset.stack', el('legend', { t: [isFunction ? 'function' : 'approve', name] }));
    const input = shownText(pretty(given));
    return isFunction ? this.outputPart(id, node, input) : this.approvalPart(id, node, input);
  }

  outputPart(id, node, input) {
    const box = el('textarea.code', { rows: 4, id: 'out_' + id, spellcheck: false, required: '' });
    const note = el('p.wrong', { role: 'status' });
    box.addEventListener('input', () => say(note, ...(broken(box.value) ?? [''])));
    node.append(input, el('label', { for: box.id, t: 'output' }), box, note);
    return { id, node, value: () => box.value };
  }

  approvalPart(id, node, input) {
    const request = el('div.stack.request', { tabindex: -1 }, input);
    const part = { id, node, request, value: () => part.chosen };
    const choose = value => {
      part.chosen = value;
      for (const one of choices) one.ariaPressed = one.dataset.t === value;
      say(this.wrong, '');
      if (this.parts.length === 1) this.node.requestSubmit();
    };
    const choices = ['approved', 'denied'].map(value =>
      button(value, () => choose(value), value === 'approved' ? 'choice go' : 'choice'),
    );
    for (const one of choices) one.ariaPressed = false;
    node.append(request, el('div.row', ...choices));
    return part;
  }

  tick() {
    const s = Math.max(0, Math.floor(this.run.expires_at - Date.now() / 1000));
    say(this.left, 'left', `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`);
    if (!s) this.view.check();
  }

  submit(event) {
    prevent(event);
    const bad = this.parts.find(part => broken(part.value()));
    if (bad) return bad.node.querySelector('textarea').focus();
    const tool_outputs = this.parts.map(part => ({ tool_call_id: part.id, output: part.value() }));
    if (tool_outputs.some(each => each.output === undefined)) return say(this.wrong, 'choose');
    this.node.hidden = true; // until the run goes on
    drive(this.view, { run_id: this.run.id, tool_outputs });
  }

  /** Shows the request of each call that waits for approval. */
  async showRequests() {
    const { data } = await get(this.view.path + '/approvals').catch(() => ({ data: [] }));
    for (const approval of data) {
      const request = this.parts.find(part => part.id === approval.tool_call_id)?.request;
      if (request) this.showRequest(request, approval);
    }
  }

  showRequest(request, { method, url, headers, body, problem: why }) {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    const head = shownText([`${method} ${url}`, ...lines].join('\n'));
    if (why) request.replaceChildren(head, ...request.childNodes, el('p.wrong', { t: ['noRequest', why] }));
    else if (body) request.replaceChildren(head, el('p.label', { t: 'requestBody' }), shownText(pretty(body)));
    else request.replaceChildren(head);
  }
}
