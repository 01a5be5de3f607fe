// Loads scripts of the page into Node: evaluates them together, with `surroundings` as globals, and returns names.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export function load(folder, scripts, names, surroundings = {}) {
  const source = scripts.map(name => readFileSync(join(folder, name + '.js'), 'utf8')).join('\n');
  const evaluate = new Function(...Object.keys(surroundings), `${source}; return { ${names.join(', ')} };`);
  return evaluate(...Object.values(surroundings));
}
