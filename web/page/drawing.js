'use strict';
// Draws long texts over many frames, within a budget for each frame.

/** How much is drawn in one task: milliseconds, and lines, as the browser then lays them out. */
class Budget {
  constructor(ms, lines) {
    this.end = now() + ms;
    this.lines = lines;
  }
  isLeft() {
    return this.lines > 0 && now() < this.end;
  }
  spend(lines) {
    this.lines -= lines;
  }
}

// Long texts are drawn over many frames; all texts share the budget of a frame, or of a task that draws immediately.
const SLOW = 32;
const unfinished = new Set();
let isDue = false;
let taskBudget = null;
let pace = 1;

function drawLater(one) {
  unfinished.add(one);
  if (isDue) return;
  isDue = true;
  document.hidden ? setTimeout(drawAll, 200) : requestAnimationFrame(drawAll);
}

function drawAll() {
  const begin = now();
  const budget = new Budget(10 * pace, 1500 * pace);
  const all = [...unfinished];
  isDue = false;
  for (const one of all) {
    unfinished.delete(one);
    if (!budget.isLeft() || !one.draw(budget)) drawLater(one);
  }
  stick(); // the browser lays out the new nodes, which can take longer than creating them
  pace = now() - begin > SLOW ? Math.max(0.1, pace / 2) : Math.min(1, pace * 1.5);
}

/** The drawing budget of the current task. */
function allowance() {
  if (!taskBudget) {
    taskBudget = new Budget(25, 5000);
    setTimeout(() => {
      taskBudget = null;
    });
  }
  return taskBudget;
}
