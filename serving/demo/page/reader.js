// The reading: a line goes down the rows, the bars move, the strip shows the likeliest class after each row.

import { Bars } from "./bars.js";
import { byId, element, paint } from "./picture.js";
import { changes, likeliest, percent } from "./story.js";

const ROW_TIME = 150; // milliseconds

/** Shows a reading and moves through its rows, which count from 1. */
export class Reader {
  constructor() {
    this.bars = new Bars(byId("bars"));
    this.slider = byId("row");
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    /** @type {number[][]} */
    this.rows = [];
    this.row = 0;
    this.frame = 0;
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    byId("play").addEventListener("click", () => this.toggle());
    byId("back").addEventListener("click", () => this.seek(this.row - 1));
    byId("forward").addEventListener("click", () => this.seek(this.row + 1));
    byId("strip").addEventListener("click", ({ target }) => {
      const row = [...byId("strip").children].indexOf(target.closest("li")) + 1;
      if (row) this.seek(row);
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  /**
   * @param {import("./api.js").Reading} reading
   * @param {number | null} truth
   */
  show(reading, truth) {
    this.stop();
    this.labels = reading.labels;
    this.height = reading.size[0];
    this.rows = reading.by_row ?? [];
    this.last = reading.probabilities;
    paint(byId("picture"), reading);
    this.bars.build(reading.labels, truth);
    this.buildStrip();
    this.slider.max = String(Math.max(1, this.rows.length));
    for (const id of ["play", "back", "row", "forward"]) byId(id).disabled = !this.rows.length;
    byId("line").hidden = !this.rows.length;
    this.seek(this.rows.length);
    if (this.rows.length && !this.still.matches) this.play();
  }

  /** @param {number} row */
  seek(row) {
    this.stop();
    this.go(row);
  }

  /** @param {number} row */
  go(row) {
    this.row = Math.min(Math.max(row, 1), this.rows.length);
    const beliefs = this.rows[this.row - 1] ?? this.last;
    const best = likeliest(beliefs);
    const [name, chance] = [this.labels[best], percent(beliefs[best])];
    const end = this.row === this.rows.length;
    const share = `${this.rows.length ? (this.row / this.rows.length) * 100 : 100}%`;
    byId("line").style.top = share;
    byId("unread").style.top = share;
    [...byId("strip").children].forEach((item, index) => item.classList.toggle("ahead", index >= this.row));
    this.slider.value = String(this.row);
    this.slider.setAttribute("aria-valuetext", `after row ${this.row} of ${this.rows.length}: ${name}, ${chance}`);
    byId("picture").setAttribute(
      "aria-label",
      `${this.height} rows of pixels${this.rows.length ? `; ${this.row} of them are read` : ""}`,
    );
    byId("when").textContent = end || !this.rows.length ? "The answer" : `After row ${this.row} of ${this.rows.length}`;
    byId("saying").replaceChildren(element("strong", "", name), element("span", "", percent(beliefs[best], 1)));
    this.bars.move(beliefs);
  }

  play() {
    this.stop();
    const first = this.row >= this.rows.length ? 1 : this.row;
    const began = performance.now();
    document.body.classList.add("playing");
    byId("play").textContent = "Pause";
    const step = (now) => {
      const row = first + Math.floor((now - began) / ROW_TIME);
      if (row >= this.rows.length) return this.seek(this.rows.length);
      if (row !== this.row) this.go(row);
      this.frame = requestAnimationFrame(step);
    };
    this.go(first);
    this.frame = requestAnimationFrame(step);
  }

  stop() {
    cancelAnimationFrame(this.frame);
    document.body.classList.remove("playing");
    byId("play").textContent = "Play";
  }

  toggle() {
    if (document.body.classList.contains("playing")) this.stop();
    else this.play();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (!this.rows.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const slider = event.target === this.slider;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (slider && event.key === " ") this.toggle();
    else if (step && !slider) this.seek(this.row + step);
    else return;
    event.preventDefault();
  }

  buildStrip() {
    const turns = new Set([1, ...changes(this.rows).map((change) => change.row)]);
    const items = this.rows.map((beliefs, index) => {
      const best = likeliest(beliefs);
      const item = element("li", turns.has(index + 1) ? "turn" : "");
      const bar = element("i");
      bar.style.width = `${beliefs[best] * 100}%`;
      item.append(bar);
      if (turns.has(index + 1)) item.append(element("b", "", this.labels[best]));
      return item;
    });
    byId("strip").replaceChildren(...items);
  }
}
