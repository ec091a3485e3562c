// The result in words: the answer, the changes of mind, and why it is wrong.

import { named } from "./api.js";
import { byId, element } from "./picture.js";
import { changes, percent, whyWrong } from "./story.js";

/**
 * Shows a reading, and says it.
 * @param {import("./reader.js").Reader} reader
 * @param {import("./api.js").Reading} reading
 * @param {number | null} truth the true class of a test digit
 */
export function tell(reader, reading, truth) {
  const { labels, by_row: rows, probabilities } = reading;
  const known = truth !== null && truth < labels.length ? truth : null;
  const answer = reading.class;
  byId("nothing").hidden = true;
  byId("result").hidden = false;
  byId("turns").hidden = false;
  byId("facts").textContent = `Version ${named(reading.version)} answered in ${reading.milliseconds.toFixed(1)} ms.`;
  byId("classes").textContent = `It knows these ${labels.length} classes and nothing else: any picture is taken for one of them.`;
  reader.show(reading, known);
  const turns = rows ? changes(rows, reader.first) : [];
  const changed = rows
    ? `It changed its mind ${turns.length === 1 ? "once" : `${turns.length} times`}.`
    : "This model reads in both directions, so it says nothing row by row: it needs the last row first.";
  byId("changed").textContent = changed;
  byId("changes").replaceChildren(
    ...turns.map(({ row, from, to }) => {
      const text = `row ${row}: from ${labels[from]} to ${labels[to]}, ${percent(rows[row - 1][to])}`;
      const button = Object.assign(element("button", "link", text), { type: "button" });
      button.addEventListener("click", () => reader.seek(row));
      const item = element("li");
      item.append(button);
      return item;
    }),
  );
  const why = known !== null && rows ? whyWrong(rows, labels, known, reader.first) : null;
  explain(reader, why, known !== null && answer !== known ? labels[known] : null);
  const verdict = known === null ? "" : answer === known ? " That is right." : ` The true class is ${labels[known]}.`;
  reader.spread();
  byId("said").textContent =
    `It says ${labels[answer]}, ${percent(probabilities[answer])}.${verdict} ${why ? `${why.text} ` : ""}${changed}`;
}

/**
 * @param {import("./reader.js").Reader} reader
 * @param {import("./story.js").Why | null} why
 * @param {string | null} truth the name of the true class if the answer is wrong
 */
function explain(reader, why, truth) {
  byId("why").hidden = truth === null;
  byId("lost").hidden = !why;
  byId("why").querySelector("p").textContent = why ? why.text : `The true class is ${truth}.`;
  const button = byId("why").querySelector("button");
  button.hidden = !why;
  if (!why) return;
  button.textContent = `Show row ${why.row}`;
  button.onclick = () => reader.seek(why.row);
  byId("lost").style.top = `${(why.row / reader.rows.length) * 100}%`;
  byId("lost").classList.toggle("low", why.row > reader.rows.length - 3);
  byId("lost").firstElementChild.textContent = `${truth} ${why.never ? "closest" : "lost"}`;
}
