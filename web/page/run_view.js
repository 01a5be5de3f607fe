'use strict';
// The view of one run, which takes its events one by one.

const CLOSED = ['completed', 'failed', 'cancelled', 'incomplete', 'expired'];

/** The view of one run. Takes events one by one. */
class RunView {
  messages = new Map();
  cards = new Map();
  last = -1;
  begun = 0;
  first = 0;
  /** For the current reply: the time of its first piece. For the newest complete one: tokens per second. */
  piece = 0;
  speed = 0;
  body = el('div');
  foot = el('span.foot');
  pending = el('p.dim.wait', { t: 'thinking' });
  constructor(run) {
    this.run = run;
    this.tools = el(
      'div.tools',
      copier(() => this.text()),
      button('again', shield(again), 'bare again'),
      this.foot,
    );
    this.head = author(word('answer'));
    this.node = el('article.it', this.head, this.body, this.tools);
    this.node.view = this;
    if (run) this.name(run);
  }
  /** Shows who answers: the assistant, or else the model. The server's own choice of a model has no name. */
  name({ assistant_id, model, created_at }) {
    const assistant = assistants.find(each => each.id === assistant_id)?.name;
    this.head.replaceWith(
      (this.head = author(assistant || model ? el('span', assistant || model) : word('answer'), created_at)),
    );
  }
  get path() {
    return `/threads/${this.run.thread_id}/runs/${this.run.id}`;
  }
  text() {
    return [...this.messages.values()].map(m => m.text).join('\n\n');
  }
  busy(is) {
    this.node.classList.toggle('busy', is);
    this.tools.hidden = is || waiting === this;
    if (is && !this.messages.size) this.body.append(this.pending);
    else this.pending.remove();
  }
  show(node) {
    this.pending.remove();
    this.body.append(node);
    return node;
  }
  message(id) {
    if (!this.messages.has(id)) this.messages.set(id, new Markdown(this.show(el('div.md'))));
    return this.messages.get(id);
  }
  whole(message) {
    const md = this.message(message.id);
    const text = textOf(message);
    const why = message.incomplete_details?.reason;
    if (text !== md.text) md.set(text);
    else md.flush();
    if (message.status === 'incomplete') this.mark(...(why === 'run_cancelled' ? ['stopped'] : ['cut', why ?? '?']));
  }
  /** A waiting run can have ended or been answered elsewhere. */
  async check() {
    const run = await get(this.path).catch(() => this.run);
    if (run.status === 'requires_action' || waiting !== this || live) return;
    this.state(run);
    drive(this, { run_id: run.id, after: this.last });
  }
  mark(...words) {
    if (!this.marked) this.marked = this.show(el('span.mark', { t: words }));
  }
  step(step) {
    for (const [i, call] of (step.step_details.tool_calls ?? []).entries()) {
      const card = this.card(step.id, i, call, true);
      const end = step.completed_at;
      card.state.replaceChildren(word('s_' + step.status));
      card.ended = step.status !== 'in_progress';
      if (end)
        card.state.append(
          ' · ',
          word('took', this.begun ? Math.round((now() - card.since) / 100) / 10 : end - step.created_at),
        );
      if (step.last_error) put(card.output, step.last_error.message);
    }
  }
  card(
    step,
    i,
    { type, file_search, function: f = { name: type, output: file_search?.results && stringify(file_search.results) } },
    whole,
  ) {
    const key = step + i;
    if (!this.cards.has(key)) {
      const card = {
        step,
        name: el('b'),
        state: el('span.st.dim', word('s_in_progress')),
        input: shownText(''),
        output: say(shownText(''), 'pending'),
        text: '',
        since: now(),
      };
      card.draw = () => {
        card.input.textContent = pretty(card.text);
        return true;
      };
      card.node = this.show(
        el(
          'details.card',
          el('summary', card.name, card.state),
          el('p.label', { t: 'arguments' }),
          card.input,
          el('p.label', { t: 'output' }),
          card.output,
        ),
      );
      this.cards.set(key, card);
    }
    const card = this.cards.get(key);
    if (f.name) card.name.textContent = f.name;
    card.text = (whole ? '' : card.text) + (f.arguments ?? '');
    if (whole) card.draw();
    else drawLater(card);
    if (f.output != null) put(card.output, pretty(f.output));
    return card;
  }
  apply({ event, data, id }) {
    if (id >= 0) this.last = Math.max(this.last, id);
    if (event.endsWith('.delta')) {
      this.piece ||= now();
      this.first ||= this.piece;
    }
    if (event === 'thread.message.delta') {
      const text = (data.delta.content ?? []).map(part => part.text?.value ?? '').join('');
      if (!this.isSpeaking) {
        this.isSpeaking = true;
        announce('generating');
      }
      this.message(data.id).add(text);
    } else if (/^thread\.message\.(completed|incomplete)$/.test(event)) this.whole(data);
    else if (event === 'thread.run.step.delta')
      for (const call of data.delta.step_details?.tool_calls ?? []) this.card(data.id, call.index, call);
    else if (event.startsWith('thread.run.step.')) {
      this.measure(data);
      this.step(data);
    } else if (event.startsWith('thread.run.')) this.state(data);
    else if (event === 'threadhold.reset') this.forget(data);
    else if (event === 'threadhold.reasoning.delta') this.think(data);
  }
  /** A step that ends has the usage of its reply alone; a run's usage is that of all its replies. */
  measure({ type, status, usage }) {
    if (status === 'in_progress') return;
    const seconds = (now() - this.piece) / 1000;
    if (type === 'message_creation' && usage && this.piece)
      this.speed = seconds > 0.1 ? usage.completion_tokens / seconds : 0;
    this.piece = 0;
  }
  /** Thoughts are shown above their answer; `taken` ones first arrived as its text. */
  think({ id, text, taken }) {
    const md = this.message(id);
    if (taken) md.set('');
    if (!md.thoughts) {
      md.thoughts = shownText('');
      md.host.before(el('details.card', el('summary', { t: 'thoughts' }), md.thoughts));
    }
    md.newThoughts = (md.newThoughts ?? '') + text;
    drawLater(
      (md.thinker ??= {
        draw: () => {
          md.thoughts.append(md.newThoughts);
          md.newThoughts = '';
          return true;
        },
      }),
    );
  }
  /** Removes messages and cards of a reply that a crash interrupted; they are created again. */
  forget({ message_ids, step_ids }) {
    for (const id of message_ids) {
      const md = this.messages.get(id);
      md?.thoughts?.parentNode.remove();
      md?.host.remove();
      this.messages.delete(id);
    }
    for (const [key, card] of this.cards)
      if (step_ids.includes(card.step)) {
        card.node.remove();
        this.cards.delete(key);
      }
  }
  state(run) {
    if (!this.run) this.name(run);
    this.run = run;
    this.form?.close();
    if (waiting === this) waiting = null;
    if (['in_progress', 'requires_action'].includes(run.status))
      for (const card of this.cards.values()) if (!card.ended) card.state.replaceChildren(word('s_' + run.status));
    if (run.status === 'requires_action') this.wait(run);
    if (CLOSED.includes(run.status)) this.end(run);
  }
  end({ status, usage, started_at, completed_at, cancelled_at, failed_at, last_error, threadhold }) {
    this.busy(false);
    const facts = [['s_' + status]];
    const end = completed_at ?? cancelled_at ?? failed_at;
    if (usage?.total_tokens) facts.push(['tokensInOut', usage.prompt_tokens, usage.completion_tokens]);
    if (this.begun && this.first) {
      facts.push(['first', (this.first - this.begun) / 1000]);
      if (this.speed) facts.push(['speed', Math.round(this.speed * 10) / 10]);
    } else if (started_at && end) facts.push(['took', end - started_at]);
    if (threadhold?.left_out_messages) facts.push(['leftOut', threadhold.left_out_messages]);
    this.foot.replaceChildren(...facts.flatMap((fact, i) => [i ? ' · ' : '', word(...fact)]));
    if (last_error && !this.errorShown) this.errorShown = this.show(problem({ ...last_error, request: this.request }));
    if (status === 'cancelled') this.mark('stopped');
  }

  /** Shows a form for the calls that the run waits for. */
  wait(run) {
    this.form = new WaitingForm(this, run);
    this.show(this.form.node);
    waiting = this;
    this.form.start();
    announce('asks');
  }
}
