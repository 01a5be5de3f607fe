'use strict';
// What the browser keeps between visits: choices in localStorage, the key in sessionStorage.

const disk = location.protocol === 'file:';

/** Access to a storage of the browser; without permission, it is empty. */
const shelf = name => ({
  get: () => {
    try {
      return parse(window[name].threadhold);
    } catch {}
  },
  set: value => {
    try {
      window[name].threadhold = stringify(value);
    } catch {
      /* then not */
    }
  },
});

const choices = shelf('localStorage');
const secret = shelf('sessionStorage');
const kept = choices.get() ?? {};
const keep = change => choices.set(Object.assign(kept, change));
