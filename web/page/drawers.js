'use strict';
// The folding parts of the window: the list of threads on the left, the set-up on the right.

const DRAWERS = { nav: 'more', panel: 'panelButton' }; // each with its button
const isWide = () => matchMedia('(width>68rem)').matches;

/** Opens or closes a part. On narrow screens, it then covers the conversation, and only one is open. */
function drawer(id, is) {
  for (const [other, button] of Object.entries(DRAWERS)) {
    if (other !== id && (!is || isWide())) continue;
    const opens = other === id && is;
    $(other).classList.toggle('open', opens);
    $(button).ariaExpanded = opens;
  }
}

const isOpen = id => $(id).classList.contains('open');

/** Opens or closes a part at the user's request; the choice is kept where it does not cover the conversation. */
function toggle(id) {
  drawer(id, !isOpen(id));
  if (id === 'panel' && isWide()) keep({ panel: isOpen('panel') });
}

/** Closes the part that covers the conversation; returns whether there was one. */
function closeDrawer() {
  const id = !isWide() && Object.keys(DRAWERS).find(isOpen);
  if (!id) return false;
  drawer(id, false);
  $(DRAWERS[id]).focus();
  return true;
}

/** The set-up is open where there is space, unless the user has closed it. */
function arrange() {
  drawer('nav', false);
  drawer('panel', isWide() && (kept.panel ?? true));
}

matchMedia('(width>68rem)').addEventListener('change', arrange);
