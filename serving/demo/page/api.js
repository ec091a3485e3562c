// The demo's own server: three questions, and a sentence when one is not answered.

/**
 * @typedef {{target: string, version: string, size: [number, number], by_row: boolean, max_bytes: number}} Status
 * @typedef {{size: [number, number], pixels: string}} Pixels size is height and width; pixels is base64
 * @typedef {Pixels & {position: number, truth: number, answer: number | null}} Digit
 * @typedef {Pixels & {labels: string[], class: number, probabilities: number[], by_row: number[][] | null, note: string,
 *   version: string, milliseconds: number}} Reading
 */

/** A sentence for the reader of the page. */
export class Sentence extends Error {}

/** @returns {Promise<Status>} */
export const status = () => ask("/api/status");

/** @returns {Promise<Digit[]>} */
export const digits = () => ask("/api/digits");

/**
 * Reads an image file, or grey bytes of the model's own size.
 * @param {Blob | Uint8Array} content
 * @param {AbortSignal} signal
 * @returns {Promise<Reading>}
 */
export function read(content, signal) {
  let type = "application/octet-stream";
  if (content instanceof Blob) type = content.type.startsWith("image/") ? content.type : "image/unknown";
  return ask("/api/read", { method: "POST", body: content, headers: { "Content-Type": type }, signal });
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Sentence("The demo itself does not answer. Start it again in its terminal.");
  }
  const answer = await response.json().catch(() => ({ error: `The demo answers with status ${response.status}.` }));
  if (!response.ok) throw new Sentence(answer.error);
  return answer;
}

/**
 * @param {string} version
 * @returns {string} the version, and the date and time that it is: the pipeline's versions are unix seconds
 */
export function named(version) {
  const seconds = Number(version);
  if (!(seconds >= 1e9 && seconds < 1e10)) return version;
  const date = new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return `${version} (${date})`;
}

/**
 * @param {Pixels} picture
 * @returns {Uint8Array} one grey level for each pixel, row by row
 */
export function levels(picture) {
  return Uint8Array.from(atob(picture.pixels), (letter) => letter.charCodeAt(0));
}
