// The reading: a line goes down the rows, the bars move, the strip shows the likeliest class after each row.

import { Bars } from "./bars.js";
import { levels } from "./api.js";
import { byId, element, paint } from "./picture.js";
import { changes, firstInk, likeliest, percent } from "./story.js";

const ROW_TIME = 150; // milliseconds
const GAP = 4; // pixels

/** Shows a reading and moves through its rows, which count from 1. */
export class Reader {
  constructor() {
    this.bars = new Bars(byId("bars"));
    this.slider = byId("row");
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    /** @type {number[][]} */
    this.rows = [];
    this.row = 0;
    this.first = 1; // the first row with ink
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
    new ResizeObserver(() => this.spread()).observe(byId("strip"));
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
    this.first = firstInk(levels(reading), reading.size[1]);
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

  /** Shows nothing, as at the start. */
  clear() {
    this.stop();
    this.rows = [];
    for (const id of ["play", "back", "row", "forward"]) byId(id).disabled = true;
    for (const id of ["line", "lost", "result", "turns"]) byId(id).hidden = true;
    byId("nothing").hidden = false;
    byId("strip").replaceChildren();
    byId("said").textContent = "";
    byId("picture").getContext("2d").clearRect(0, 0, byId("picture").width, byId("picture").height);
    byId("picture").setAttribute("aria-label", "No picture yet");
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
    const turns = new Set([this.first, ...changes(this.rows, this.first).map((change) => change.row)]);
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

  /** Puts the names of changes that are near each other side by side. One without room is left out: the list has it. */
  spread() {
    const strip = byId("strip").getBoundingClientRect();
    const placed = [byId("lost").firstElementChild.getBoundingClientRect()];
    for (const name of byId("strip").querySelectorAll("b")) {
      name.style.translate = "";
      name.hidden = false;
      const { left, top, bottom, width } = name.getBoundingClientRect();
      const up = Math.min(0, strip.bottom - bottom); // the last row has no room below it
      const near = placed.filter((box) => box.top <= bottom + up + 1 && box.bottom + 1 >= top + up);
      let along = left;
      for (const box of near.sort((one, other) => one.left - other.left))
        if (box.left < along + width && box.right > along) along = box.right + GAP;
      name.style.translate = `${along - left}px ${up}px`;
      name.hidden = along + width > strip.right;
      if (!name.hidden) placed.push(name.getBoundingClientRect());
    }
  }
}
