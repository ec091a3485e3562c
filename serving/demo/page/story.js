// What the beliefs after each row tell: pure functions of an array [rows][classes] of probabilities.

const INK = 64; // of 255; less is the haze around a stroke

/**
 * @param {number[]} beliefs
 * @returns {number} the class with the highest probability
 */
export function likeliest(beliefs) {
  return beliefs.indexOf(Math.max(...beliefs));
}

/**
 * @param {Uint8Array} levels grey levels, row by row
 * @param {number} width of a row
 * @returns {number} the first row with ink, counted from 1; 1 if there is none
 */
export function firstInk(levels, width) {
  return Math.floor(Math.max(0, levels.findIndex((level) => level >= INK)) / width) + 1;
}

/**
 * @param {number[][]} rows
 * @param {number} [first] the first row that counts: before any ink there is nothing to have an opinion of
 * @returns {{row: number, from: number, to: number}[]} each row, counted from 1, after which another class is likeliest
 */
export function changes(rows, first = 1) {
  const leaders = rows.map(likeliest);
  return leaders.flatMap((to, index) =>
    index >= first && to !== leaders[index - 1] ? [{ row: index + 1, from: leaders[index - 1], to }] : [],
  );
}

/**
 * Where the true class was lost.
 * @param {number[][]} rows
 * @param {number} truth
 * @param {number} first the first row that counts
 * @returns {{row: number, to: number} | null} the last row after which the truth was likeliest, or 0 if it never was,
 *   and the class that won; null if the last answer is true
 */
function lost(rows, truth, first) {
  const leaders = rows.map(likeliest);
  const row = leaders.lastIndexOf(truth) + 1;
  if (row === rows.length) return null;
  return row < first ? { row: 0, to: leaders.at(-1) } : { row, to: leaders[row] };
}

/**
 * @param {number[][]} rows
 * @param {number} truth
 * @param {number} first the first row that counts
 * @returns {number} the row, counted from 1, after which the truth had its highest probability
 */
function closest(rows, truth, first) {
  const chances = rows.slice(first - 1).map((beliefs) => beliefs[truth]);
  return likeliest(chances) + first;
}

/**
 * @param {number} probability
 * @param {number} [digits] after the point
 * @returns {string} per cent; never 0 or 100 for what is only near
 */
export function percent(probability, digits = 0) {
  const shown = (probability * 100).toFixed(digits);
  const least = 10 ** -digits;
  if (Number(shown) === 100 && probability < 1) return `>\u00a0${(100 - least).toFixed(digits)}\u00a0%`;
  if (Number(shown) === 0 && probability > 0) return `<\u00a0${least.toFixed(digits)}\u00a0%`;
  return `${shown}\u00a0%`;
}

/**
 * @typedef {{text: string, row: number, never: boolean}} Why
 * @param {number[][]} rows
 * @param {string[]} labels
 * @param {number} truth
 * @param {number} [first] the first row that counts
 * @returns {Why | null} why the answer is wrong, and the row to look at; null if it is right
 */
export function whyWrong(rows, labels, truth, first = 1) {
  const loss = lost(rows, truth, first);
  if (!loss) return null;
  const [name, answer] = [labels[truth], labels[likeliest(rows.at(-1))]];
  if (!loss.row) {
    const row = closest(rows, truth, first);
    const chance = percent(rows[row - 1][truth]);
    const text = `The true class ${name} was never the likeliest. It came closest after row ${row}, with ${chance}.`;
    return { text, row, never: true };
  }
  const end = labels[loss.to] === answer ? "" : `, and in the end to ${answer}`;
  const text = `The true class ${name} was the likeliest until row ${loss.row}; then it was lost to ${labels[loss.to]}${end}.`;
  return { text, row: loss.row, never: false };
}
