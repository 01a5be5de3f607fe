'use strict';
// Files of messages: pictures, uploads, their state, and the passages that answers cite.

/** A file and its indexing status. */
function chip(id) {
  const node = el('span.mark', { 'data-file': id }, id, ' ', el('i'));
  get('/files/' + id).then(
    file => {
      node.firstChild.data = file.filename;
    },
    () => {},
  );
  return node;
}

/** The entry of the model that will answer, if the server lists it. */
function modelEntry() {
  const name = $('model').value.trim() || assistants.find(a => a.id === $('assistant').value)?.model;
  return models.find(m => m.id === name) ?? (models.length === 1 ? models[0] : undefined);
}

/** Whether a model's entry reports that it accepts no images: ours, llama.cpp's, Mistral's or OpenRouter's. */
const isBlind = m =>
  [m?.threadhold?.vision, m?.capabilities?.vision].includes(false) ||
  (Array.isArray(m?.capabilities) &&
    m.capabilities.includes('completion') &&
    !m.capabilities.some(one => /^(multimodal|vision)$/.test(one))) ||
  (Array.isArray(m?.architecture?.input_modalities) && !m.architecture.input_modalities.includes('image'));

/** Reports before sending that the model does not accept attached images; returns whether it did. */
function warnBlind() {
  const entry = modelEntry();
  const is = $('chips').querySelector('[data-picture]') && isBlind(entry);
  $('blind').hidden = !is;
  if (is) say($('blind'), 'blind', entry.id);
  return !!is;
}

/** An image that the server can send to models. Other formats and large images are converted. */
async function asPicture(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw failure({ message: t('noPicture', file.name), status: 400 });
  });
  if (/^image\/(png|jpeg|gif|webp)$/.test(file.type) && file.size <= 2 ** 21) return file;
  const scale = Math.min(1, 2048 / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const sheet = canvas.getContext('2d');
  sheet.fillStyle = '#fff';
  sheet.fillRect(0, 0, canvas.width, canvas.height); // JPEG has no transparency
  sheet.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new File(
    [await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.92 })],
    file.name.replace(/\.\w*$/, '') + '.jpg',
    { type: 'image/jpeg' },
  );
}

/** Uploads a file for the next message: images are sent to the model, other files are searched. */
const upload = shield(async given => {
  const isPicture = given.type.startsWith('image/');
  const node = button(
    's_in_progress',
    () => {
      node.remove();
      warnBlind();
    },
    'mark',
  );
  if (isPicture) node.dataset.picture = '';
  $('chips').append(node);
  warnBlind();
  try {
    await given
      .slice(0, 1)
      .arrayBuffer()
      .catch(() => {
        throw failure({ message: t('unreadable', given.name), status: 400 });
      });
    const file = isPicture ? await asPicture(given) : given;
    const form = new FormData();
    form.append('purpose', isPicture ? 'vision' : 'assistants');
    form.append('file', file, file.name);
    node.dataset.file = (await (await call('POST', '/files', form)).json()).id;
    put(node, file.name + ' ×');
  } catch (error) {
    node.remove();
    warnBlind();
    throw error;
  }
});

/** Uploads files one by one. A refused file does not affect the others. */
async function attach(files) {
  for (const file of [...files]) await upload(file);
}

const watch = shield(async () => {
  const mine = opening;
  const store = (await get('/threads/' + thread.id)).tool_resources.file_search?.vector_store_ids[0];
  for (let left = store; left && mine === opening; left && (await new Promise(later => setTimeout(later, 500)))) {
    const files = new Map((await all(`/vector_stores/${store}/files?`)).map(file => [file.id, file]));
    left = [...files.values()].some(file => file.status === 'in_progress');
    for (const node of every('[data-file] i')) {
      const file = files.get(node.parentNode.dataset.file);
      if (file) file.last_error ? put(node, file.last_error.message) : say(node, 's_' + file.status);
    }
  }
});

/** Opens or closes the passage of a footnote. */
const cite = shield(async button => {
  const { path } = button.closest('.it').view;
  const [search, place] = button.dataset.cite.split(' ');
  const isOpen = button.ariaExpanded === 'true';
  button.ariaExpanded = !isOpen;
  if (isOpen) return button.quote.remove();
  const steps = await all(
    path + '/steps?order=asc&include[]=step_details.tool_calls[*].file_search.results[*].content',
  );
  const { file_name, content } = steps.flatMap(step => step.step_details.tool_calls ?? []).filter(x => x.file_search)[
    search
  ].file_search.results[place];
  button
    .closest('p, li, td, h3, h4')
    .append((button.quote = el('blockquote', el('b', file_name), '\n', ...content.map(part => part.text))));
});
