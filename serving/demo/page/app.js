// The page: what is given, what is asked, and what is said in words.

import * as api from "./api.js";
import { list, unmark } from "./digits.js";
import { Pad } from "./draw.js";
import { byId } from "./picture.js";
import { Reader } from "./reader.js";
import { tell } from "./tell.js";

const NOTHING = "Nothing yet.";
const PAUSE = { beside: 900, below: 1500 }; // milliseconds after the last stroke; longer if the page then scrolls

const reader = new Reader();
const pad = new Pad(byId("pad"), drawn);
let maxBytes = Infinity;
let version = ""; // of the model that the page last heard of
let waiting = 0;
let from = NOTHING;
let asked = new AbortController();

/** @param {boolean} drawing */
function drawn(drawing) {
  clearTimeout(waiting);
  asked.abort();
  byId("pad-hint").hidden = !pad.empty;
  for (const id of ["read", "undo", "clear"]) byId(id).disabled = pad.empty;
  reader.stop();
  if (!drawing && !pad.empty) waiting = setTimeout(readDrawing, below() ? PAUSE.below : PAUSE.beside);
}

/** Takes back what is on the pad, and what was said of it. */
function clear() {
  pad.clear();
  reader.clear();
  byId("source").textContent = from = NOTHING;
  say("");
}

async function readDrawing() {
  clearTimeout(waiting);
  if (await read(await pad.picture(), "your drawing", null)) look();
}

/** @param {File | undefined} file */
async function readFile(file) {
  if (!file) return;
  pad.clear();
  if (file.size > maxBytes) say(`${file.name} is larger than ${maxBytes / 2 ** 20} MB. Give a smaller picture.`);
  else if (await read(file, file.name || "the pasted image", null)) look();
}

/**
 * @param {Blob | Uint8Array} content
 * @param {string} source
 * @param {number | null} truth
 * @returns {Promise<boolean>} whether there is an answer
 */
async function read(content, source, truth) {
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  if (truth === null) unmark(byId("digits"));
  const slow = setTimeout(() => (byId("source").textContent = "Asking the model server …"), 400);
  try {
    const reading = await api.read(content, signal);
    if (signal.aborted) return false;
    say(reading.note && `Look at the picture: ${reading.note}.`);
    tell(reader, reading, truth);
    from = `${reading.size.join(" × ")} pixels, from ${source}.`;
    if (reading.version !== version) await start();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
    if (error.name !== "AbortError" && !(error instanceof api.Sentence)) throw error;
    return false;
  } finally {
    clearTimeout(slow);
    byId("source").textContent = from;
  }
}

/** @param {string} sentence one for the reader, or nothing */
function say(sentence) {
  byId("message").textContent = sentence;
}

/** @returns {boolean} whether the reading is below what was given, as in a narrow window */
const below = () => byId("sees").getBoundingClientRect().top > innerHeight / 2;

function look() {
  byId("sees").style.scrollMarginTop = `${byId("message").offsetHeight + 16}px`; // the message stays on top
  if (below()) byId("sees").scrollIntoView({ behavior: reader.still.matches ? "auto" : "smooth" });
}

async function start() {
  try {
    const served = await api.status();
    version = served.version;
    maxBytes = served.max_bytes;
    byId("served").textContent = `Version ${api.named(version)} at ${served.target}.`;
  } catch (error) {
    byId("served").textContent = "No model answers.";
    say(error.message);
  }
  list(byId("digits"), await api.digits(), async (digit) => {
    pad.clear();
    if (await read(api.levels(digit), `test digit ${digit.position}, a ${digit.truth}`, digit.truth)) look();
  });
}

byId("read").addEventListener("click", readDrawing);
byId("undo").addEventListener("click", () => {
  pad.undo();
  if (pad.empty) clear();
});
byId("clear").addEventListener("click", clear);
byId("file").addEventListener("change", ({ target }) => {
  readFile(target.files[0]);
  target.value = "";
});
document.addEventListener("paste", (event) => readFile(event.clipboardData?.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  readFile(event.dataTransfer?.files[0]);
});
start().catch((error) => say(error.message));
