// Pixels on a canvas, as the model sees them.

import { levels } from "./api.js";

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./api.js").Pixels} picture
 */
export function paint(canvas, picture) {
  const [height, width] = picture.size;
  Object.assign(canvas, { width, height });
  const data = new ImageData(width, height);
  levels(picture).forEach((level, index) => data.data.set([level, level, level, 255], index * 4));
  canvas.getContext("2d").putImageData(data, 0, 0);
}

/**
 * An element with classes and text.
 * @param {string} name
 * @param {string} [classes]
 * @param {string} [text]
 */
export function element(name, classes = "", text = "") {
  return Object.assign(document.createElement(name), { className: classes, textContent: text });
}

/** @param {string} id */
export const byId = (id) => document.getElementById(id);
